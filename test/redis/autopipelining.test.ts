import { CacheFence } from "cachefence";
import type { Cluster, ClusterOptions, Redis, RedisOptions } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { addScriptlessUser, itKeepsItsPromises, pairOver, scriptless } from "../support/keeps-its-promises.js";
import { type RedisCluster, startRedisCluster } from "../support/redis-cluster.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";
import { until } from "../support/waiting.js";

const enableAutoPipelining = true;
// Of the fallback's commands a claim's `set` may not be overtaken by its reads: docs/connection-settings.md.
const autoPipeliningIgnoredCommands = ["set", "get", "hmget"];

describe.each(majors)("a client with enableAutoPipelining, ioredis $name,", (major) => {
  const clients: (Redis | Cluster)[] = [];
  const keep = <C extends Redis | Cluster>(client: C): C => {
    client.on("error", () => undefined);
    clients.push(client);
    return client;
  };
  afterEach(() => {
    for (const client of clients.splice(0)) client.disconnect();
  });

  describeOwnRedis("of one server", () => {
    let server: RedisServer;
    beforeAll(async () => {
      server = await startRedis();
      const admin = new major.Redis(server.url);
      await addScriptlessUser(admin);
      admin.disconnect();
    });
    afterAll(() => server.stop());
    const connect = (options: RedisOptions = {}): Redis =>
      keep(new major.Redis(server.port, server.host, { enableAutoPipelining, ...options }));

    itKeepsItsPromises(() => pairOver([connect(), connect()]));

    describe("where scripting is denied,", () => {
      const options = { ...scriptless, autoPipeliningIgnoredCommands };
      itKeepsItsPromises(() => pairOver([connect(options), connect(options)], false));
    });

    it("sends the reads of one turn in one pipeline", async () => {
      const client = connect();
      const cache = new CacheFence(client, { namespace: uniquePrefix() });
      await cache.set("key-3", 60, "value");
      await client.ping();
      const reads = [1, 2, 3].map((number) => cache.peek(`key-${number}`));
      // And TIME, should a sample of the clock be due.
      expect([3, 4]).toContain(client.autoPipelineQueueSize);
      expect((await Promise.all(reads)).map((entry) => entry?.value)).toEqual([undefined, undefined, "value"]);
    });
  });

  describeOwnRedis("of a Cluster", () => {
    let servers: RedisCluster;
    beforeAll(async () => {
      servers = await startRedisCluster();
      for (const { url } of servers.masters) {
        const admin = new major.Redis(url);
        await addScriptlessUser(admin);
        admin.disconnect();
      }
    });
    afterAll(() => servers.stop());
    const connect = (options: ClusterOptions = {}): Cluster =>
      keep(new major.Cluster(servers.nodes, { enableAutoPipelining, ...options }));

    itKeepsItsPromises(() => pairOver([connect(), connect()]));

    describe("where scripting is denied,", () => {
      const options = { redisOptions: scriptless, autoPipeliningIgnoredCommands };
      itKeepsItsPromises(() => pairOver([connect(options), connect(options)], false));
    });

    // ioredis takes the slot of a name from behind the empty tag to its next brace, and refuses a whole pipeline for it.
    it("whose key prefix has an empty tag refuses no command, and none of the application's beside it", async () => {
      const client = connect({ keyPrefix: "{}:" });
      const cache = new CacheFence(client, { namespace: uniquePrefix(), redisTimeout: 20 });
      const keys = Array.from({ length: 5 }, (_, number) => `key-${number}`);
      const values = Promise.all(keys.map((key) => cache.getOrSet(key, 60, () => key)));
      const own = Promise.all(keys.map((key) => client.get(`own ${key}`)));
      expect(await values).toEqual(keys);
      expect(await own).toEqual(keys.map(() => null));
      expect(await Promise.all(keys.map((key) => cache.getOrSet(key, 60, () => "again")))).toEqual(keys);
      expect(cache.stats()).toMatchObject({ hits: 5, rebuilds: 5, redisErrors: 0 });
      await cache.invalidate(keys);
    });

    // Of such keys ioredis knows no right slot: alone they are redirected, and a pipeline with others besides is a reply of MOVED.
    it("names what belongs to a key with an empty tag and a later brace so that no command is refused", async () => {
      const cache = new CacheFence(connect(), { namespace: uniquePrefix(), redisTimeout: 20 });
      await cache.getOrSet("warm", 60, () => "warm");
      for (const key of ["x{}{y}", "{}{}", "{}x}", "list:{}7", "odd}key", "{a}{}"]) {
        expect(await cache.getOrSet(key, 60, () => key)).toBe(key);
        expect(await cache.getOrSetEntry(key, 60, () => "again")).toMatchObject({ value: key, source: "redis" });
        expect(await cache.getOrSetEntry("warm", 60, () => "again")).toMatchObject({ source: "redis" });
        await cache.invalidate(key);
      }
      expect(cache.stats().redisErrors).toBe(0);
    });

    it("that throws for a slot which nobody serves costs only the cache", async () => {
      const client = connect();
      await until("it is ready", () => client.status === "ready");
      const namespace = uniquePrefix();
      const cache = new CacheFence(client, { namespace });
      const slot = await client.cluster("KEYSLOT", `${namespace}key`);
      const { slots } = client as unknown as { slots: (string[] | undefined)[] };
      const owners = slots[slot];
      slots[slot] = undefined;
      expect(() => client.get(`${namespace}key`)).toThrow(TypeError);
      expect(await cache.getOrSet("key", 60, () => "source")).toBe("source");
      await expect(cache.invalidate("key")).rejects.toMatchObject({ name: "RedisUnavailableError", key: "key" });
      slots[slot] = owners;
      expect(await cache.getOrSet("key", 60, () => "stored")).toBe("stored");
      expect(await cache.getOrSet("key", 60, () => "again")).toBe("stored");
    });
  });
});
