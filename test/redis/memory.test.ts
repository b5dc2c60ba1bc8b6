import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { CacheFence } from "cachefence";
import type { CacheFenceOptions } from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import type { Runtime } from "../../src/runtime.js";
import { systemRuntime } from "../../src/runtime.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import type { RedisServer } from "../support/redis-server.js";
import { startRedis } from "../support/redis-server.js";
import { until } from "../support/waiting.js";

for (const major of majors) {
  describeOwnRedis(`copies in memory, ioredis ${major.name}`, () => {
    let namespace: string;
    let server: RedisServer;
    let raw: Redis;
    const clients: Redis[] = [];

    beforeAll(async () => {
      server = await startRedis();
      raw = new major.Redis(server.url);
    });
    beforeEach(() => {
      namespace = uniquePrefix();
    });
    afterEach(() => {
      for (const client of clients.splice(0)) client.disconnect();
    });
    afterAll(async () => {
      raw.disconnect();
      await server.stop();
    });
    const connect = (credentials: object = {}): Redis => {
      const client = new major.Redis(server.port, server.host, credentials);
      clients.push(client);
      return client;
    };
    const open = (options: CacheFenceOptions = {}, runtime: Partial<Runtime> = {}, client = connect()) => {
      const defaults = { namespace, redisTimeout: 20, waitForLock: 60, memoryLease: 60, memory: new Map() };
      return new CacheFence(client, { ...defaults, ...options }, { ...systemRuntime, random: () => 1, ...runtime });
    };
    const unused = (): Promise<never> => Promise.reject(new Error("must not be called"));
    const sourceIn = async (cache: CacheFence, key = "k") => (await cache.getOrSetEntry(key, 60, unused)).source;
    const warm = (cache: CacheFence, key = "k") =>
      until("it is in memory", async () => (await sourceIn(cache, key)) === "memory");
    const audience = (key = "k") => raw.zrange(`${namespace}${key}:audience`, 0, -1);
    async function eventsDuring(name: string, run: (seen: readonly object[]) => Promise<unknown>): Promise<object[]> {
      const seen: object[] = [];
      const listener = (message: unknown) => void seen.push(message as object);
      subscribe(name, listener);
      try {
        await run(seen);
      } finally {
        unsubscribe(name, listener);
      }
      return seen;
    }

    it("are made at the second read, and cost no command from then on", async () => {
      const client = connect();
      const cache = open({}, {}, client);
      await cache.getOrSet("other", 60, () => 1); // The mailbox is there.
      await open({ memory: undefined }).set("k", 60, { a: 1 });
      expect([await sourceIn(cache), await audience()]).toEqual(["redis", []]);
      expect([await sourceIn(cache), (await audience()).length]).toEqual(["redis", 1]);
      const commands = ["hmgetBuffer", "eval", "evalsha", "evalBuffer", "evalshaBuffer", "time"] as const;
      const sent = commands.map((name) => vi.spyOn(client as unknown as Record<typeof name, () => unknown>, name));
      for (let read = 0; read < 5; read++) expect(await sourceIn(cache)).toBe("memory");
      expect(sent.flatMap((spy) => spy.mock.calls)).toEqual([]);
      expect(cache.stats()).toMatchObject({ hits: 7, memoryHits: 5 });
    });

    it.each([
      ["invalidate", (cache: CacheFence) => cache.invalidate("k"), "new"],
      ["set", (cache: CacheFence) => cache.set("k", 60, "set"), "set"],
    ])(
      "are recalled by the %s of another process, which has none itself, before that resolves",
      async (_, fence, now) => {
        const [one, two] = [open(), open()];
        await one.set("k", 60, "old");
        await Promise.all([warm(one), warm(two)]);
        const dropped = await eventsDuring("cachefence:copy-dropped", () => fence(open({ memory: undefined })));
        expect(dropped).toHaveLength(2);
        for (const cache of [one, two]) expect(await cache.getOrSet("k", 60, () => "new")).toBe(now);
        // And none is made again for a lease: a key that is fenced all the time is read from Redis.
        for (let read = 0; read < 5; read++) expect(await sourceIn(one)).toBe("redis");
        expect(await audience()).toEqual([]);
      },
    );

    it("serve a list, by one look at the clocks; Redis is asked for the rest alone", async () => {
      const client = connect();
      let looks = 0;
      const wallClockMs = (): number => (looks++, systemRuntime.wallClockMs());
      const cache = open({}, { wallClockMs }, client);
      await cache.getOrSet("other", 60, () => 1); // The mailbox is there.
      const keys = ["a", "b", "c", "d", "e"];
      const list = async (all: string[]) =>
        [
          ...(await cache.getOrSetMany(
            all,
            (key) => key,
            60,
            (missing) => missing.map((key) => `of ${key}`),
          )),
        ].flat();
      await list(keys);
      for (const key of keys) await warm(cache, key);
      const { memoryHits } = cache.stats();
      const reads = vi.spyOn(client, "hmgetBuffer");
      const corks = vi.spyOn((client as unknown as { stream: { cork(): void } }).stream, "cork");
      looks = 0;
      expect(await list(keys)).toEqual(keys.flatMap((key) => [key, `of ${key}`]));
      expect(corks).not.toHaveBeenCalled();
      expect([looks, cache.stats().memoryHits - memoryHits, reads.mock.calls]).toEqual([1, 5, []]);
      expect(await list(["f", ...keys, "g"])).toEqual(["f", ...keys, "g"].flatMap((key) => [key, `of ${key}`]));
      expect(cache.stats().memoryHits - memoryHits).toBe(10);
      expect(reads.mock.calls.map(([key]) => key)).toEqual([`${namespace}f`, `${namespace}g`]);
    });

    it("are dropped by a fence of their own process", async () => {
      const cache = open();
      await cache.set("k", 60, "old");
      await warm(cache);
      await cache.set("k", 60, "new");
      expect(await cache.getOrSet("k", 60, unused)).toBe("new");
    });

    it("are waited for by two fences at once, until the lease of who does not answer has ended", async () => {
      await raw.zadd(`${namespace}k:audience`, Date.now() + 60_000, `c${"f".repeat(16)}:300`);
      const fences = [open(), open()];
      const began = performance.now();
      const waits = await eventsDuring("cachefence:fence-wait", () =>
        Promise.all(fences.map((one) => one.invalidate("k"))),
      );
      expect(performance.now() - began).toBeGreaterThanOrEqual(290);
      expect(waits).toHaveLength(2);
      expect(fences.map((one) => one.stats().fenceWaits)).toEqual([1, 1]);
    });

    it.each([
      ["the monotonic clock", 61_000, 0],
      ["the wall clock, for the other stands still while a machine is suspended", 0, 61_000],
      ["a wall clock that is set back", 0, -3_600_000],
    ])("end with their lease, by %s", async (_, monotonicMs, wallMs) => {
      let moved = false;
      const cache = open(
        {},
        {
          monotonicMs: () => performance.now() + (moved ? monotonicMs : 0),
          wallClockMs: () => Date.now() + (moved ? wallMs : 0),
        },
      );
      await cache.set("k", 600, "value");
      await warm(cache);
      moved = true;
      expect(await sourceIn(cache)).toBe("redis");
    });

    it("leave what else is in the store alone, and may share it with caches over other servers", async () => {
      const other = await startRedis();
      try {
        const memory = new Map<string, unknown>([["k", "the user's own"]]);
        const cache = open({ memory });
        const elsewhere = new major.Redis(other.url);
        clients.push(elsewhere);
        const there = open({ memory }, {}, elsewhere);
        await cache.set("k", 60, "here");
        await there.set("k", 60, "there");
        await Promise.all([warm(cache), warm(there)]);
        expect(await cache.getOrSet("k", 60, unused)).toBe("here");
        expect(await there.getOrSet("k", 60, unused)).toBe("there");
        expect(memory.get("k")).toBe("the user's own");
        memory.clear(); // As a store that evicts.
        expect(await sourceIn(cache)).toBe("redis");
      } finally {
        await other.stop();
      }
    });

    it("give each caller an object of its own; frozen ones are one for all", async () => {
      const [own, frozen] = [open(), open({ values: "frozen" })];
      await own.set("k", 60, { list: [{ deep: 1 }] });
      await Promise.all([warm(own), warm(frozen)]);
      const spoiled = await own.getOrSet<{ list: { deep: number }[] }>("k", 60, unused);
      spoiled.list[0]!.deep = 2;
      for (let read = 0; read < 5; read++) expect(await own.getOrSet("k", 60, unused)).toEqual({ list: [{ deep: 1 }] });
      const shared = await frozen.getOrSet<object>("k", 60, unused);
      expect(await frozen.getOrSet("k", 60, unused)).toBe(shared);
      expect(Object.isFrozen(shared)).toBe(true);
    });

    it("are refreshed early as entries are, by one draw for each hit that may be one", async () => {
      const draws = vi.fn(() => 1);
      const cache = open({}, { random: draws });
      await cache.getOrSet("k", 60, () => "old");
      await raw.hset(`${namespace}k`, "delta", "1");
      await warm(cache);
      draws.mockClear();
      await cache.getOrSet("k", 60, unused);
      expect(draws).toHaveBeenCalledTimes(1);
      draws.mockReturnValue(Number.MIN_VALUE);
      const eager = open({}, { random: draws });
      await eager.getOrSet("k", 60, () => "old", { beta: 0 });
      await until(
        "it is in memory",
        async () => (await eager.getOrSetEntry("k", 60, unused, { beta: 0 })).source === "memory",
      );
      draws.mockClear();
      expect(await eager.getOrSet("k", 60, () => "new")).toBe("new");
      expect(await eager.getOrSet("k", 60, unused, { beta: 0 })).toBe("new");
    });

    it.each([
      ["scripting", ["-@scripting"]],
      ["pub/sub", ["-@pubsub"]],
      ["what a copy needs", ["-zadd"]],
    ])("are none where the server denies %s, and an event says so, once", async (_, denied) => {
      await raw.call("ACL", "SETUSER", "limited", "reset", "on", ">p", "~*", "&*", "+@all", ...denied);
      const cache = open({}, {}, connect({ username: "limited", password: "p" }));
      await open({ memory: undefined }).set("k", 60, "value");
      const told = await eventsDuring("cachefence:no-memory", async () => {
        await cache.getOrSet("other", 60, () => 1);
        for (let read = 0; read < 6; read++) expect(await sourceIn(cache)).toBe("redis");
      });
      expect(told).toHaveLength(1);
      expect(told[0]).toMatchObject({ namespace });
    });

    it("are not made while Redis refuses writes, and cost a hit nothing", async () => {
      const cache = open({ onRedisError: "throw" });
      await cache.set("k", 600, "value");
      await cache.getOrSet("other", 600, () => 1);
      await raw.config("SET", "min-replicas-to-write", "1");
      try {
        for (let read = 0; read < 5; read++) expect(await sourceIn(cache)).toBe("redis");
        expect(cache.stats().redisErrors).toBe(0);
      } finally {
        await raw.config("SET", "min-replicas-to-write", "0");
      }
      await warm(cache);
    });

    it("are taken back by close, and leave the audience", async () => {
      const cache = open();
      await cache.set("k", 60, "value");
      await warm(cache);
      expect(await audience()).toHaveLength(1);
      await cache.close();
      expect(await audience()).toEqual([]);
      expect(await sourceIn(cache)).toBe("redis");
    });

    it("are taken back by close, though another cache over the client has its own, even of the same keys in the same store", async () => {
      const client = connect();
      const memory = new Map<string, unknown>();
      // With one runtime they share all that caches over one client do.
      const runtime = { ...systemRuntime, random: () => 1 };
      const options = { namespace, redisTimeout: 20, memoryLease: 60 };
      const openOver = (store: Map<string, unknown>) => new CacheFence(client, { ...options, memory: store }, runtime);
      const closed = openOver(memory);
      const shared = openOver(memory);
      const own = openOver(new Map());
      await closed.set("k", 60, "value");
      await closed.set("other", 60, "value");
      await warm(closed);
      await warm(own);
      await warm(shared, "other");
      await closed.close();
      expect([...memory.keys()]).toEqual([expect.stringMatching(/other$/)]);
      for (const key of ["k", "k", "other", "other"]) expect(await sourceIn(closed, key)).toBe("redis");
      expect(await sourceIn(own)).toBe("memory");
      expect(await sourceIn(shared, "other")).toBe("memory");
      await open().invalidate("k", "other");
      for (const cache of [closed, own]) expect(await cache.getOrSet("k", 60, () => "new")).toBe("new");
    });

    it.each(["get", "set", "delete"] as const)(
      "are given up, with one word, where the %s of the store throws; values and fences are worth the same",
      async (method) => {
        const memory = new Map<string, unknown>();
        const cache = open({ memory });
        await cache.set("k", 60, "old");
        if (method === "delete") await warm(cache);
        memory[method] = () => {
          throw new Error("the store's own");
        };
        const reasons = await eventsDuring("cachefence:no-memory", async (told) => {
          if (method === "delete") {
            await open().invalidate("k");
            expect(await cache.getOrSet("k", 60, () => "new")).toBe("new");
          }
          await cache.getOrSet("mailbox", 60, () => 1);
          await until("a copy would be made", async () => {
            expect(await sourceIn(cache)).toBe("redis");
            return method !== "set" || told.length > 0;
          });
          for (let read = 0; read < 3; read++) expect(await sourceIn(cache)).toBe("redis");
          expect((await cache.getOrSetMany(["k"], (key) => key, 60, unused)).size).toBe(1);
        });
        expect(reasons).toEqual([
          { namespace, reason: expect.objectContaining({ message: "the store's own" }) as unknown },
        ]);
        expect(cache.stats().redisErrors).toBe(0);
      },
    );

    it("that are due give way to what another process has stored meanwhile: it is found there, and nobody waited", async () => {
      const takesTime = (value: string) => async () => (await raw.ping(), value);
      const cache = open({}, { random: () => 0.5 });
      await cache.getOrSet("k", 60, takesTime("old"));
      await warm(cache);
      const eager = { beta: 1e12 };
      expect(await open({}, { random: () => 0.5 }).getOrSet("k", 60, takesTime("new"), eager)).toBe("new");
      expect(await cache.getOrSetEntry("k", 60, unused, eager)).toMatchObject({ value: "new", source: "redis" });
    });

    it("are not made of a key whose audience's name is taken: an error says so, as a fence would", async () => {
      const cache = open();
      await cache.set("k", 60, "value");
      await raw.set(`${namespace}k:audience`, "theirs");
      const read = async () => {
        for (;;) await cache.getOrSet("k", 60, unused);
      };
      await expect(read()).rejects.toThrow(/k:audience".* holds a string .*audience of/);
    });

    it("keep no cache that nobody has any more, though its client is there", async () => {
      const client = connect();
      const abandoned = async (): Promise<WeakRef<CacheFence>> => {
        const cache = open({}, {}, client);
        await cache.set("k", 60, "value");
        await warm(cache);
        return new WeakRef(cache);
      };
      const cache = await abandoned();
      setFlagsFromString("--expose-gc");
      const collectGarbage = runInNewContext("gc") as () => void;
      await until("it is collected", () => {
        collectGarbage();
        return cache.deref() === undefined;
      });
    });
  });
}
