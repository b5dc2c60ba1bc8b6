import { CacheFence, RedisUnavailableError } from "cachefence";
import { Command, type Redis } from "ioredis";
import { Command as Command6 } from "ioredis6";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { addScriptlessUser, scriptless } from "../support/keeps-its-promises.js";
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

    it("whose read alone fails, tells of that, once, and stores all the same", async () => {
      const cache = new CacheFence(client, { namespace: uniquePrefix() });
      const heard: unknown[] = [];
      const hear = (event: unknown) => void heard.push(event);
      subscribe("cachefence:redis-error", hear);
      vi.spyOn(client, "hmgetBuffer").mockRejectedValueOnce(
        new Error("LOADING Redis is loading the dataset in memory"),
      );
      expect(await cache.getOrSet("key", 60, () => "stored")).toBe("stored");
      unsubscribe("cachefence:redis-error", hear);
      expect(heard).toMatchObject([{ key: "key", error: { message: expect.stringContaining("LOADING") as string } }]);
      expect(await cache.getOrSet("key", 60, () => "again")).toBe("stored");
      expect(cache.stats()).toMatchObject({ hits: 1, misses: 1, rebuilds: 1, redisErrors: 1 });
      await cache.close();
    });

    it.each([
      ["by scripts", {}],
      ["by WATCH", scriptless],
    ])("whose SET and GET the application transforms, everywhere, keeps its promises %s", async (_, user) => {
      await addScriptlessUser(client);
      const { argument, reply } = transformersOf(major.name === "6" ? Command6 : Command);
      argument.set = ([key, value, ...rest]) => [key, JSON.stringify(value), ...rest];
      reply.get = (stored) => (stored === null ? null : (JSON.parse(stored as string) as unknown));
      const others = [1, 2].map(() => new major.Redis(server.port, server.host, user));
      try {
        const namespace = uniquePrefix();
        const caches = others.map((other) => new CacheFence(other, { namespace }));
        const recompute = vi.fn(() => Promise.resolve("value"));
        const values = await Promise.all(caches.map((cache) => cache.getOrSet("key", 60, recompute)));
        expect(values).toEqual(["value", "value"]);
        expect(recompute).toHaveBeenCalledOnce();
        await caches[0]!.invalidate("key");
        expect(await caches[1]!.getOrSet("key", 60, () => "new")).toBe("new");
        expect(await caches[0]!.getOrSet("key", 60, recompute)).toBe("new");
        for (const cache of caches) expect(cache.stats()).toMatchObject({ redisErrors: 0, takeovers: 0 });
      } finally {
        delete argument.set;
        delete reply.get;
        for (const other of others) other.disconnect();
      }
    });

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
      expect(cache.stats().redis).toBe("lost");
      await cache.close();
      nowhere.disconnect();
    });

    it("for nothing listens where it connects to, is an outage for a call with tags, in a list, and for peek too", async () => {
      const nowhere = new major.Redis(1, "127.0.0.1");
      nowhere.on("error", () => undefined);
      const cache = new CacheFence(nowhere, { namespace: uniquePrefix(), redisTimeout: 0.2 });
      const one = (options: object) => cache.getOrSet("key", 60, () => 1, options);
      const many = (options: object) =>
        cache.getOrSetMany(
          ["a", "b"],
          (key) => key,
          60,
          (keys) => keys,
          options,
        );
      let errors = 0;
      const told = async (call: Promise<unknown>): Promise<number> => {
        await call;
        const before = errors;
        errors = cache.stats().redisErrors;
        return errors - before;
      };
      for (const options of [{}, { tags: ["t"] }]) {
        expect(await told(one(options))).toBe(1);
        expect(await told(many(options))).toBe(2);
      }
      expect(await told(cache.peek("key"))).toBe(1);
      expect(await told(cache.peek("key", { tags: ["t"] }))).toBe(1);
      await cache.close();
      nowhere.disconnect();
    });
  });
});

function transformersOf(command: unknown): Transformers {
  return (command as { readonly _transformer: Transformers })._transformer;
}

/** What ioredis keeps of `setArgumentTransformer` and `setReplyTransformer`, for there is nothing to take them back with. */
interface Transformers {
  readonly argument: Record<string, ((args: unknown[]) => unknown[]) | undefined>;
  readonly reply: Record<string, ((reply: unknown) => unknown) | undefined>;
}
