import { CacheFence, CacheFenceError } from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { systemRuntime } from "../../src/runtime.js";
import { deferred } from "../support/deferred.js";
import { describeRedis, removeKeys, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { until } from "../support/waiting.js";

for (const major of majors) {
  describeRedis(`tags, ioredis ${major.name}`, (url) => {
    const prefix = uniquePrefix();
    let namespace: string;
    let tests = 0;
    let raw: Redis;
    const clients: Redis[] = [];

    beforeAll(() => {
      raw = new major.Redis(url);
    });
    beforeEach(() => {
      namespace = `${prefix}${++tests}:`;
    });
    afterEach(() => {
      for (const client of clients.splice(0)) client.disconnect();
    });
    afterAll(async () => {
      await removeKeys(raw, prefix);
      raw.disconnect();
    });
    const open = (options: ConstructorParameters<typeof CacheFence>[1] = {}) => {
      const client = new major.Redis(url);
      clients.push(client);
      return new CacheFence(client, { namespace, redisTimeout: 20, waitForLock: 60, beta: 0, ...options });
    };
    const tags = ["a", "b"];

    it("reach all entries of a group, at the cost of one key", async () => {
      const cache = open();
      for (const key of ["1", "2", "3"]) await cache.getOrSet(key, 60, () => "old", { tags: ["a"] });
      await cache.getOrSet("other", 60, () => "old", { tags: ["b"] });
      await open().invalidateTags("a");
      for (const key of ["1", "2", "3"])
        expect(await cache.getOrSet(key, 60, () => "new", { tags: ["a"] })).toBe("new");
      expect(await cache.getOrSet("other", 60, () => "new", { tags: ["b"] })).toBe("old");
    });

    it("may be named in any order, and more than once; an entry with others is a miss", async () => {
      const cache = open();
      await cache.getOrSet("k", 60, () => "value", { tags: ["b", "a", "b"] });
      expect((await cache.peek("k", { tags }))?.value).toBe("value");
      expect(await cache.peek("k", { tags: ["a"] })).toBeUndefined();
      expect(await cache.peek("k")).toBeUndefined();
      expect(await cache.getOrSet("k", 60, () => "untagged")).toBe("untagged");
      expect(await cache.peek("k", { tags })).toBeUndefined();
    });

    it.each(["invalidateTags in this process", "invalidateTags in another"])(
      "that are fenced while an entry is rebuilt are not lost: %s",
      async (where) => {
        const cache = open();
        const gate = deferred<string>();
        const before = cache.getOrSet("k", 60, () => gate.promise, { tags });
        await until("it is under way", () => cache.stats().rebuilds === 1);
        await (where.endsWith("another") ? open() : cache).invalidateTags("b");
        const recompute = vi.fn(() => "after");
        const after = cache.getOrSet("k", 60, recompute, { tags });
        await until("it has come", () => cache.stats().misses === 2);
        gate.resolve("before");
        expect(await Promise.all([before, after])).toEqual(["before", "after"]);
        expect(recompute).toHaveBeenCalledTimes(1);
        expect(await open().getOrSet("k", 60, () => "again", { tags })).toBe("after");
      },
    );

    it("have another state after a fence, also where the command that makes it is an earlier one, sent again", async () => {
      const client = new major.Redis(url);
      clients.push(client);
      // One that is sent again has the nonce that it had.
      const runtime = { ...systemRuntime, nonce: () => "0".repeat(12) };
      const cache = new CacheFence(client, { namespace, redisTimeout: 20, beta: 0 }, runtime);
      expect(await cache.getOrSet("k", 60, () => "old", { tags })).toBe("old");
      await cache.invalidateTags(...tags);
      expect(await cache.getOrSet("k", 60, () => "new", { tags })).toBe("new");
    });

    it("whose state is evicted are a miss of their entries, and no revival", async () => {
      const cache = open();
      await cache.getOrSet("k", 60, () => "old", { tags });
      await raw.del(`${namespace}a:tag`);
      await cache.set("untagged", 60, "value");
      expect(await cache.peek("k", { tags })).toBeUndefined();
      expect(await cache.peek("untagged", { tags: ["a"] })).toBeUndefined();
      // To look leaves nothing behind.
      expect(await raw.exists(`${namespace}a:tag`)).toBe(0);
      expect(await cache.getOrSet("k", 60, () => "new", { tags })).toBe("new");
      expect((await cache.peek("k", { tags }))?.value).toBe("new");
    });

    it("outlive their entries", async () => {
      const cache = open();
      await cache.getOrSet("k", 100_000, () => "value", { tags: ["a"], staleFor: 50_000 });
      await cache.set("set", 200_000, "value", { tags: ["b"] });
      await until("the state of both is kept", async () => {
        return (await raw.ttl(`${namespace}a:tag`)) >= 150_000 && (await raw.ttl(`${namespace}b:tag`)) >= 200_000;
      });
      expect((await cache.peek("set", { tags: ["b"] }))?.value).toBe("value");
      await cache.invalidateTags("b");
      expect(await cache.peek("set", { tags: ["b"] })).toBeUndefined();
    });

    it("are made and kept by one command each for all of a list, in a write of their own", async () => {
      const client = new major.Redis(url);
      clients.push(client);
      const cache = new CacheFence(client, { namespace, redisTimeout: 20, waitForLock: 60, beta: 0 });
      await cache.getOrSet("mailbox", 60, () => 1, { tags: ["warm"] });
      const seen = { commands: 0, writes: 0 };
      vi.spyOn(client, "sendCommand").mockImplementation((...args) => {
        seen.commands++;
        return major.Redis.prototype.sendCommand.apply(client, args);
      });
      const { stream } = client as unknown as { stream: Record<string, (...args: unknown[]) => unknown> };
      for (const name of ["_write", "_writev"]) {
        const real = stream[name]!.bind(stream);
        stream[name] = (...args) => {
          seen.writes++;
          return real(...args);
        };
      }
      const items = Array.from({ length: 9 }, (_, index) => index);
      const list = (from: string, tagOf: (item: number) => string[]) =>
        cache.getOrSetMany(
          items,
          (item) => from + String(item),
          60,
          (missing) => missing,
          { tags: tagOf },
        );
      await list("a", (item) => ["all", `of ${String(item % 2)}`]);
      await until("the states are kept", () => seen.writes >= 5);
      // 9 entries and 3 tags read; 3 tags made; 9 claims; 9 stores; 3 tags kept.
      expect(seen).toEqual({ commands: 36, writes: 5 });
      // Kept for long enough already.
      await list("b", (item) => ["all", `of ${String(item % 2)}`]);
      expect(seen).toEqual({ commands: 36 + 30, writes: 8 });
    });

    it("hold back no fence of another request when they are made and kept", async () => {
      const client = new major.Redis(url);
      clients.push(client);
      const cache = new CacheFence(client, { namespace, redisTimeout: 20, waitForLock: 60, beta: 0 });
      await cache.set("hit", 60, 1);
      const tagged = cache.getOrSet("tagged", 60, () => 1, { tags });
      const other = async () => {
        await cache.getOrSet("hit", 60, () => 1);
        // In the turn in which the states are found to be missing.
        const fence = cache.invalidate("other");
        expect(client.stream.writableCorked).toBe(0);
        await fence;
      };
      await Promise.all([tagged, other()]);
      // In the turn in which the entry is stored.
      await cache.getOrSet("again", 60, () => 1, { tags: ["new"] });
      const fence = cache.invalidate("other");
      expect(client.stream.writableCorked).toBe(0);
      await fence;
    });

    it("are kept anew behind a new connection: there may be a server that knows nothing of it", async () => {
      const client = new major.Redis(url);
      clients.push(client);
      const cache = new CacheFence(client, { namespace, redisTimeout: 20, waitForLock: 60, beta: 0 });
      const left = () => raw.pttl(`${namespace}a:tag`);
      await cache.set("k", 6_000, 1, { tags: ["a"] });
      await until("it is kept", async () => (await left()) > 9_000_000);
      await raw.pexpire(`${namespace}a:tag`, 60_000);
      await cache.set("k", 6_000, 1, { tags: ["a"] });
      await raw.ping();
      expect(await left()).toBeLessThanOrEqual(60_000);
      const isReady = new Promise((resolve) => client.once("ready", resolve));
      client.disconnect(true);
      await isReady;
      await cache.set("k", 6_000, 1, { tags: ["a"] });
      await until("it is kept again", async () => (await left()) > 9_000_000);
    });

    it("are kept anew for what lives longer, and where they are others by now", async () => {
      const cache = open();
      const ttl = (tag: string) => raw.ttl(`${namespace}${tag}:tag`);
      await cache.set("k", 60, 1, { tags: ["a"] });
      await until("it is kept", async () => (await ttl("a")) > 3_600);
      await cache.set("k", 6_000, 1, { tags: ["a"] });
      await until("it is kept for longer", async () => (await ttl("a")) > 9_500);
      await cache.invalidateTags("a");
      await cache.set("k", 6_000, 1, { tags: ["a"] });
      await until("the new one is kept", async () => (await ttl("a")) > 9_500);
    });

    it("are kept by an early refresh", async () => {
      const cache = open();
      await cache.getOrSet("k", 60, () => "old", { tags });
      const states = () => Promise.all(tags.map((tag) => raw.hget(`${namespace}${tag}:tag`, "state")));
      const before = await states();
      const [seconds] = (await raw.time()).map(Number);
      await raw.hset(`${namespace}k`, "expiry", String(seconds! - 1));
      expect(await cache.getOrSet("k", 60, () => "new", { tags, staleFor: 600 })).toBe("new");
      expect(await states()).toEqual(before);
    });

    it("in memory cost a hit nothing, and are recalled like any copy", async () => {
      const cache = open({ memory: new Map(), memoryLease: 60 });
      const read = () => cache.getOrSetEntry("k", 60, () => "old", { tags });
      await until("all of it is in memory", async () => (await read()).source === "memory");
      await open().invalidateTags("b");
      expect(await cache.getOrSetEntry("k", 60, () => "new", { tags })).toMatchObject({
        value: "new",
        source: "rebuild",
      });
    });

    it("collide with no key of the user's, whichever comes first: an error says what collides", async () => {
      const cache = open();
      await cache.set("a:tag", 60, "mine");
      const collision = cache.getOrSet("k", 60, () => 1, { tags: ["a"] });
      await expect(collision).rejects.toBeInstanceOf(CacheFenceError);
      await expect(collision).rejects.toThrow(/a:tag".*name of the tag of/);
      await expect(cache.invalidateTags("a")).rejects.toThrow(/a:tag/);
      expect((await cache.peek("a:tag"))?.value).toBe("mine");
      await cache.getOrSet("k", 60, () => 1, { tags: ["b"] });
      await expect(cache.set("b:tag", 60, "mine")).rejects.toThrow(/b:tag/);
      await expect(cache.set("x", 60, 1, { tags: ["a"] })).rejects.toBeInstanceOf(CacheFenceError);
    });

    it("are stored with what refreshes a copy", async () => {
      const cache = open({ memory: new Map(), memoryLease: 60 });
      // Takes a while, so that there is a delta to be drawn with.
      const make = async (value: string) => (await raw.ping(), value);
      const read = () => cache.getOrSetEntry("k", 60, () => make("old"), { tags });
      await until("it is in memory", async () => (await read()).source === "memory");
      expect(await cache.getOrSet("k", 60, () => make("new"), { tags, beta: 1e12 })).toBe("new");
      expect((await open().peek("k", { tags }))?.value).toBe("new");
    });

    it("collide with no key of the user's that is in memory", async () => {
      const cache = open({ memory: new Map(), memoryLease: 60 });
      await cache.getOrSet("mailbox", 60, () => 1);
      await cache.set("a:tag", 60, "mine");
      await until("it is in memory", async () => {
        return (await cache.getOrSetEntry("a:tag", 60, () => "not asked")).source === "memory";
      });
      await expect(cache.getOrSet("k", 60, () => 1, { tags: ["a"] })).rejects.toThrow(/a:tag".*name of the tag of/);
      expect(await raw.exists(`${namespace}k`)).toBe(0);
    });
  });
}
