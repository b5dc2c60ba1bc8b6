import { CacheFence } from "cachefence";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeOwnRedis, removeKeys, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";

describeOwnRedis("the backlog of a process", () => {
  describe.each(majors)("ioredis $name", (major) => {
    let server: RedisServer;

    beforeAll(async () => {
      server = await startRedis();
    });
    afterAll(() => server.stop());

    it.each([
      ["that is ready", true],
      ["that is making its first connection", false],
    ])(
      "is no outage: 10,000 cold keys are stored, though each waits longer than redisTimeout: a client %s",
      async (_, isReady) => {
        const namespace = uniquePrefix();
        const client = new major.Redis(server.url);
        // No lease ends in this test, however long the backlog is.
        const cache = new CacheFence(client, { namespace, redisTimeout: 0.5, lockTimeout: 60 });
        try {
          if (isReady) await client.ping();
          const keys = Array.from({ length: 10_000 }, (_, number) => `key ${number}`);
          const values = await Promise.all(keys.map((key) => cache.getOrSet(key, 600, () => key)));
          expect(values).toEqual(keys);
          expect(cache.stats()).toMatchObject({ redisErrors: 0, refusedStores: 0, rebuilds: 10_000 });
          expect(await client.dbsize()).toBe(10_000);
          await removeKeys(client, namespace);
        } finally {
          await cache.close();
          client.disconnect();
        }
      },
    );
  });
});
