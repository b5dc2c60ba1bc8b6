import { CacheFence, RedisUnavailableError } from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";

describeOwnRedis("a client that is not as it should be", () => {
  describe.each(majors)("ioredis $name", (major) => {
    let server: RedisServer;
    let client: Redis;

    beforeAll(async () => {
      server = await startRedis();
    });
    afterAll(() => server.stop());
    beforeEach(async () => {
      client = new major.Redis(server.url);
      await client.ping();
    });
    afterEach(() => {
      client.disconnect();
    });

    it("for the application has a transaction open on it, says so, and works when that is over", async () => {
      const cache = new CacheFence(client, { namespace: uniquePrefix() });
      await client.multi({ pipeline: false });
      expect(await cache.getOrSet("key", 60, () => "source")).toBe("source");
      await expect(cache.invalidate("key")).rejects.toThrow(/transaction open .* \(MULTI\).*; key "key"$/);
      await expect(cache.invalidate("key")).rejects.toBeInstanceOf(RedisUnavailableError);
      await client.discard();
      expect(await cache.getOrSet("key", 60, () => "stored")).toBe("stored");
      expect(await cache.getOrSet("key", 60, () => "again")).toBe("stored");
      await cache.close();
    });

    it.each(["hmgetBuffer", "set", "eval", "evalsha", "time"] as const)(
      "for its %s throws, costs only the cache",
      async (name) => {
        const throwing = new Proxy(client, {
          get: (target, property): unknown => {
            if (property === name) {
              return () => {
                throw new TypeError("Cannot read properties of undefined (reading 'join')");
              };
            }
            const value: unknown = Reflect.get(target, property);
            return typeof value === "function" ? value.bind(target) : value;
          },
        });
        const cache = new CacheFence(throwing, { namespace: uniquePrefix() });
        expect(await cache.getOrSet("key", 60, () => "first")).toBe("first");
        expect(await cache.getOrSet("other", 60, () => "second")).toBe("second");
        await cache.close();
      },
    );

    it("for nothing listens where it connects to, tells that from a server that is slow", async () => {
      const nowhere = new major.Redis(1, "127.0.0.1");
      const heard: string[] = [];
      nowhere.on("error", (error) => heard.push(error.message));
      const cache = new CacheFence(nowhere, { namespace: uniquePrefix(), redisTimeout: 0.2 });
      const error: unknown = await cache.invalidate("key").catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(RedisUnavailableError);
      expect(error).toMatchObject({
        message: expect.stringContaining("connect ECONNREFUSED 127.0.0.1:1") as string,
        cause: { code: "ECONNREFUSED" },
      });
      // The application hears its own errors all the while.
      expect(heard[0]).toContain("ECONNREFUSED");
      expect(nowhere.listenerCount("error")).toBe(1);
      await cache.close();
      nowhere.disconnect();
    });
  });
});
