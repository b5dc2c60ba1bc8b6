import { CacheFence, type CacheFenceOptions } from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { deferred } from "../support/deferred.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";
import { until } from "../support/waiting.js";

// No test lasts as long as this lease: a lock that is gone was freed by somebody.
const lockTimeout = 60;

describeOwnRedis("a server that refuses a write for now", () => {
  describe.each(majors)("ioredis $name", (major) => {
    let server: RedisServer;
    let client: Redis;
    let observer: Redis;
    let namespace: string;
    const caches: CacheFence[] = [];

    beforeAll(async () => {
      server = await startRedis();
      observer = new major.Redis(server.url);
    });
    afterAll(async () => {
      observer.disconnect();
      await server.stop();
    });
    beforeEach(async () => {
      namespace = uniquePrefix();
      client = new major.Redis(server.url);
      await client.ping();
    });
    afterEach(async () => {
      await refuse(false);
      for (const cache of caches.splice(0)) await cache.close();
      client.disconnect();
    });

    const refuse = (refuses: boolean) => observer.config("SET", "min-replicas-to-write", refuses ? "1" : "0");
    const isLocked = async (key: string) => (await observer.exists(`${namespace}${key}:lock`)) === 1;
    const isStored = async (key: string) => (await observer.exists(`${namespace}${key}`)) === 1;
    const fence = (options: CacheFenceOptions = {}) => {
      const cache = new CacheFence(client, { namespace, lockTimeout, beta: 0, redisTimeout: 10, ...options });
      caches.push(cache);
      return cache;
    };

    describe.each([
      ["by script", "+@scripting"],
      ["by WATCH", "-@scripting"],
    ])("%s", (_, scripting) => {
      beforeEach(async () => {
        await observer.acl("SETUSER", "writer", "reset", "on", ">secret", "~*", "&*", "+@all", scripting);
        client.disconnect();
        client = new major.Redis({ port: server.port, host: server.host, username: "writer", password: "secret" });
        await client.ping();
      });

      const outcomes: [string, stores: boolean, end: () => Promise<string>, ttl: number | (() => number)][] = [
        ["that succeeds, and stores its value", true, async () => "value", 60],
        ["that fails", false, async () => Promise.reject(new Error("source is down")), 60],
        ["that is not to be cached", false, async () => "value", () => 0],
      ];
      it.each(outcomes)(
        "frees the lock of a recompute %s, soon after it allows it again",
        async (_, stores, end, ttl) => {
          const cache = fence();
          const started = deferred();
          const finish = deferred();
          const call = cache.getOrSet("key", ttl, async () => {
            started.resolve();
            await finish.promise;
            return end();
          });
          await started.promise;
          await refuse(true);
          finish.resolve();
          await call.catch(() => undefined);
          expect(await isLocked("key")).toBe(true);
          await refuse(false);
          await until("the lock is gone", async () => !(await isLocked("key")));
          expect(await isStored("key")).toBe(stores);
          expect(await cache.getOrSet("key", 60, () => "again")).toBe(stores ? "value" : "again");
        },
      );
    });
  });
});
