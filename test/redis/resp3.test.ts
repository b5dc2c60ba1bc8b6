import { CacheFence } from "cachefence";
import type { Cluster, Redis, RedisOptions } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { addScriptlessUser, itKeepsItsPromises, pairOver, scriptless } from "../support/keeps-its-promises.js";
import { type RedisCluster, startRedisCluster } from "../support/redis-cluster.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";

// An option that ioredis 5 does not know.
const resp3 = { protocol: 3 } as RedisOptions;

describe.each(majors.filter(({ name }) => name === "6"))("a client that speaks RESP3, ioredis $name,", (major) => {
  const clients: (Redis | Cluster)[] = [];
  const keep = <C extends Redis | Cluster>(client: C): C => {
    clients.push(client);
    return client;
  };
  afterEach(() => {
    for (const client of clients.splice(0)) client.disconnect();
  });

  describeOwnRedis("to one server", () => {
    let server: RedisServer;
    let admin: Redis;
    beforeAll(async () => {
      server = await startRedis();
      admin = new major.Redis(server.url);
      await addScriptlessUser(admin);
    });
    afterAll(async () => {
      admin.disconnect();
      await server.stop();
    });
    const connect = (options: RedisOptions = {}): Redis =>
      keep(new major.Redis(server.port, server.host, { ...resp3, ...options }));

    itKeepsItsPromises(() => pairOver([connect(), connect()]));

    describe("where scripting is denied,", () => {
      itKeepsItsPromises(() => pairOver([connect(scriptless), connect(scriptless)], false));
    });

    it("has entries of any bytes, and does speak it", async () => {
      const client = connect();
      const bytes = Buffer.from([0, 1, 13, 10, 200, 255]);
      const identity = { serializer: (value: Buffer) => value, deserializer: (value: Buffer) => value };
      const cache = new CacheFence(client, { namespace: uniquePrefix(), ...(identity as object) });
      await cache.getOrSet("key", 60, () => bytes);
      expect(await cache.getOrSet("key", 60, () => Buffer.from("other"))).toEqual(bytes);
      const info = await client.client("INFO");
      // 6.2 does not say.
      expect(info).not.toMatch(/ resp=2/);
    });
  });

  describeOwnRedis("to a Cluster", () => {
    let servers: RedisCluster;
    beforeAll(async () => {
      servers = await startRedisCluster();
    });
    afterAll(() => servers.stop());
    const connect = (): Cluster => keep(new major.Cluster(servers.nodes, { redisOptions: resp3 }));

    itKeepsItsPromises(() => pairOver([connect(), connect()]));
  });
});
