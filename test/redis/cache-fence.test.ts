import { AsyncLocalStorage } from "node:async_hooks";
import { eventually } from "../support/eventually.js";
import { waitersOf } from "../support/audience.js";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { getEventListeners, setMaxListeners } from "node:events";
import { deserialize, serialize } from "node:v8";
import {
  CacheFence,
  CacheFenceError,
  type CacheFenceEvents,
  type CacheFenceOptions,
  RecomputeError,
  RecomputeTimeoutError,
  SerializationError,
} from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { REQUIRED_COMMANDS, type RedisClient } from "../../src/link/redis-client.js";
import { type Runtime, systemRuntime } from "../../src/runtime.js";
import { deferred } from "../support/deferred.js";
import { describeRedis, removeKeys, uniquePrefix } from "../support/describe-redis.js";
import { type IoredisMajor, majors } from "../support/ioredis.js";
import { ManualRuntime, settle } from "../support/manual-runtime.js";
import { until } from "../support/waiting.js";

for (const major of majors) {
  describeRedis(`CacheFence, ioredis ${major.name}`, (url) => suite(major, url));
}

function suite(major: IoredisMajor, url: string): void {
  const prefix = uniquePrefix();
  let redis: Redis;
  let raw: Redis;
  let namespace: string;
  let tests = 0;

  beforeAll(() => {
    redis = new major.Redis(url);
    raw = new major.Redis(url);
  });
  beforeEach(() => {
    namespace = `${prefix}${++tests}:`;
  });
  afterAll(async () => {
    await removeKeys(raw, prefix);
    redis.disconnect();
    raw.disconnect();
  });

  function open(options: CacheFenceOptions = {}, runtime: Partial<Runtime> = {}): CacheFence {
    // A draw of 1: no early refresh but where a test wants one.
    return new CacheFence(
      redis,
      { namespace, retryAfter: 0, ...options },
      { ...systemRuntime, random: () => 1, ...runtime },
    );
  }

  /** A draw that refreshes every entry whose delta is not 0. */
  const eager: Partial<Runtime> = { random: () => Number.MIN_VALUE };

  async function serverSeconds(): Promise<number> {
    const [seconds, microseconds] = (await raw.time()).map(Number);
    return seconds! + microseconds! / 1e6;
  }

  /** Writes an entry as another process would have; negative seconds: it has been stale for so long. */
  async function writeEntry(key: string, value: string, secondsLeft: number, delta = 1): Promise<void> {
    const expiry = (await serverSeconds()) + secondsLeft;
    await raw.hset(namespace + key, { v: value, delta: String(delta), expiry: String(expiry) });
    await raw.pexpire(namespace + key, 600_000);
  }

  const valueOf = (key: string) => raw.hget(namespace + key, "v");
  const lockOf = (key: string) => raw.get(`${namespace}${key}:lock`);

  async function errorOf(promise: Promise<unknown>): Promise<Error & { key?: string }> {
    try {
      await promise;
    } catch (error) {
      return error as Error;
    }
    throw new Error("Expected a rejection");
  }

  /** What is published on this channel meanwhile. */
  async function eventsDuring(name: keyof CacheFenceEvents, run: () => Promise<unknown>): Promise<unknown[]> {
    const events: unknown[] = [];
    const listener = (message: unknown) => void events.push(message);
    subscribe(name, listener);
    try {
      await run();
    } finally {
      unsubscribe(name, listener);
    }
    return events;
  }

  describe("a miss", () => {
    it("recomputes, stores what Python reads, frees the lock, and gives the stored form back", async () => {
      const cache = open();
      const before = await serverSeconds();
      expect(await cache.getOrSet("k", 60, async () => ({ at: new Date(0), none: undefined }))).toEqual({
        at: "1970-01-01T00:00:00.000Z",
      });
      const { v, delta, expiry, ...more } = await raw.hgetall(`${namespace}k`);
      expect(v).toBe('{"at":"1970-01-01T00:00:00.000Z"}');
      expect(Number(delta)).toBeGreaterThanOrEqual(0);
      expect(Number(expiry)).toBeGreaterThanOrEqual(before + 59);
      expect(Number(expiry)).toBeLessThanOrEqual((await serverSeconds()) + 61);
      expect(more).toEqual({});
      expect(await raw.pttl(`${namespace}k`)).toBeGreaterThan(50_000);
      expect(await lockOf("k")).toBeNull();
    });

    it("takes what a synchronous recompute returns", async () => {
      expect(await open().getOrSet("k", 60, () => "sync")).toBe("sync");
    });

    it("rounds a fraction of a millisecond up: PEXPIRE takes no fractions, and 0 would delete", async () => {
      const cache = open();
      expect(await cache.getOrSet("k", 0.0001, () => 1)).toBe(1);
      expect(await cache.getOrSet("l", 61.23456789, () => 1)).toBe(1);
      expect(await raw.exists(`${namespace}l`)).toBe(1);
    });

    it("measures the recompute as delta", async () => {
      let now = 1_000;
      const cache = open({}, { monotonicMs: () => now });
      await cache.getOrSet("k", 60, () => {
        now += 250;
        return 1;
      });
      expect(await raw.hget(`${namespace}k`, "delta")).toBe("0.25");
    });

    it("is shared by all callers of one process, each with an object of its own", async () => {
      const cache = open();
      const gate = deferred();
      const recompute = vi.fn(async () => {
        await gate.promise;
        return { list: [1] };
      });
      const calls = Array.from({ length: 20 }, () => cache.getOrSet("k", 60, recompute));
      await eventually(() => expect(cache.stats().coalesced).toBe(19));
      gate.resolve();
      const values = await Promise.all(calls);
      expect(recompute).toHaveBeenCalledTimes(1);
      expect(new Set(values).size).toBe(20);
      values[0]!.list.push(2);
      expect(values[1]).toEqual({ list: [1] });
    });

    it("calls recompute anew after each expiry", async () => {
      const cache = open();
      const recompute = vi.fn(() => 1);
      await cache.getOrSet("k", 60, recompute);
      await raw.hset(`${namespace}k`, "expiry", String((await serverSeconds()) - 1));
      await cache.getOrSet("k", 60, recompute);
      expect(recompute).toHaveBeenCalledTimes(2);
    });

    it("rejects every caller with the RecomputeError of the one recompute, and frees the lock first", async () => {
      const cache = open();
      const gate = deferred();
      const cause = new Error("source is down");
      const recompute = vi.fn(async () => {
        await gate.promise;
        throw cause;
      });
      const calls = Array.from({ length: 5 }, () => errorOf(cache.getOrSet("k", 60, recompute)));
      await eventually(() => expect(cache.stats().coalesced).toBe(4));
      gate.resolve();
      for (const error of await Promise.all(calls)) {
        expect(error).toBeInstanceOf(RecomputeError);
        expect(error).toBeInstanceOf(CacheFenceError);
        expect(error).toMatchObject({ name: "RecomputeError", key: "k" });
        expect(error.cause).toBe(cause);
      }
      expect(recompute).toHaveBeenCalledTimes(1);
      expect(await cache.getOrSet("k", 60, () => "next")).toBe("next");
      expect(cache.stats()).toMatchObject({ waits: 0, rebuilds: 2 });
    });

    it.each([undefined, null, "text", new Error("WRONGTYPE Operation against a key holding the wrong kind of value")])(
      "keeps whatever recompute threw as the cause: %o",
      async (cause) => {
        const recompute = () => {
          throw cause as Error;
        };
        const error = await errorOf(open().getOrSet("k", 60, recompute));
        expect(error).toBeInstanceOf(RecomputeError);
        expect(error.cause).toBe(cause);
        expect(await lockOf("k")).toBeNull();
      },
    );

    it.each<[name: string, cause: unknown]>([
      ["an object without a prototype", Object.create(null)],
      ["an error whose message is a symbol", Object.assign(new Error(), { message: Symbol("no") })],
      ["a function", () => undefined],
    ])("is failed by a RecomputeError, whatever was thrown: %s", async (_name, cause) => {
      const recompute = () => {
        throw cause as Error;
      };
      const error = await errorOf(open().getOrSet("k", 60, recompute));
      expect(error).toBeInstanceOf(RecomputeError);
      expect(error.cause === cause).toBe(true);
      expect(await lockOf("k")).toBeNull();
    });

    it("calls a failing source once for all callers that had begun, those that came while it ran too", async () => {
      const cache = open();
      const gate = deferred();
      const recompute = vi.fn(() => gate.promise);
      const first = errorOf(cache.getOrSet("k", 60, recompute));
      await eventually(() => expect(recompute).toHaveBeenCalledTimes(1));
      const others = Array.from({ length: 5 }, () => errorOf(cache.getOrSet("k", 60, recompute)));
      await eventually(() => expect(cache.stats().coalesced).toBe(5));
      const cause = new Error("source is down");
      gate.reject(cause);
      const errors = await Promise.all([first, ...others]);
      expect(errors.map((error) => error.cause)).toEqual(Array(6).fill(cause));
      expect(recompute).toHaveBeenCalledTimes(1);
    });

    it("rejects with a SerializationError when the value has no stored form, and frees the lock", async () => {
      const error = await errorOf(open().getOrSet("k", 60, () => 1n));
      expect(error).toBeInstanceOf(SerializationError);
      expect(error.key).toBe("k");
      await expect.poll(() => lockOf("k")).toBeNull();
      expect(await raw.exists(`${namespace}k`)).toBe(0);
    });
  });

  describe("a rebuild of the same process that hangs", () => {
    // Time is the test's: what happens at a moment happens however long Redis takes to answer.
    it.each([0, 500])(
      "is taken over by a caller that joined it %d ms later, when 2 * waitForLock of its own have passed",
      async (laterMs) => {
        const runtime = new ManualRuntime();
        const cache = new CacheFence(redis, { namespace, waitForLock: 1, lockTimeout: 600, redisTimeout: 20 }, runtime);
        const rebuilds = () => cache.stats().rebuilds;
        void cache.getOrSet("k", 60, () => new Promise<never>(() => undefined));
        await until("it has begun", () => rebuilds() === 1);
        await runtime.advance(laterMs);
        const call = cache.getOrSet("k", 60, () => "second");
        await until("it has joined", () => cache.stats().coalesced === 1);
        await runtime.advance(2_000 - 1);
        await redis.ping();
        expect(rebuilds()).toBe(1);
        await runtime.advance(1);
        await until("it has taken over", async () => {
          await runtime.advance(0);
          return rebuilds() === 2;
        });
        expect(await call).toBe("second");
        await cache.close();
      },
    );
  });

  describe("a hit", () => {
    it("gives what is stored, and calls nothing", async () => {
      await writeEntry("k", '{"a":[1]}', 60);
      const cache = open();
      const recompute = vi.fn();
      const values = await Promise.all([cache.getOrSet("k", 60, recompute), cache.getOrSet("k", 60, recompute)]);
      expect(values).toEqual([{ a: [1] }, { a: [1] }]);
      expect(values[0]).not.toBe(values[1]);
      expect(recompute).not.toHaveBeenCalled();
      expect(cache.stats()).toMatchObject({ hits: 2, misses: 0, rebuilds: 0 });
    });

    it("does not look at the lock", async () => {
      await writeEntry("k", "1", 60);
      await raw.rpush(`${namespace}k:lock`, "somebody's list");
      expect(await open().getOrSet("k", 60, () => 2)).toBe(1);
    });

    it("leaves in a few writes to the socket, however many are read in one turn, and holds nothing back after it", async () => {
      const keys = Array.from({ length: 20 }, (_, i) => `k${i}`);
      for (const key of keys) await writeEntry(key, `"${key}"`, 60);
      const cache = open();
      const read = () => Promise.all(keys.map((key) => cache.getOrSet(key, 60, () => "recomputed")));
      await read(); // Takes the first sample of Redis' clock.
      const socket = redis.stream as unknown as Record<"_write" | "_writev", () => void>;
      const single = vi.spyOn(socket, "_write");
      const joined = vi.spyOn(socket, "_writev");
      try {
        const values = read();
        const writes = () => [single.mock.calls.length, joined.mock.calls.length];
        expect([...writes(), redis.stream.writableCorked]).toEqual([1, 1, 1]);
        await Promise.resolve();
        expect([...writes(), redis.stream.writableCorked]).toEqual([1, 2, 0]);
        expect(await values).toEqual(keys);
        expect(writes()).toEqual([1, 2]);
      } finally {
        single.mockRestore();
        joined.mockRestore();
      }
    });

    it("goes by Redis' clock, whatever this host believes", async () => {
      await writeEntry("valid", '"valid"', 60);
      await writeEntry("stale", '"stale"', -60);
      for (const offsetMs of [-3_600_000, 3_600_000]) {
        const cache = open({}, { wallClockMs: () => Date.now() + offsetMs });
        await cache.getOrSet("warm-up", 60, () => 1); // Brings the first sample.
        expect(await cache.getOrSet("valid", 60, () => "recomputed")).toBe("valid");
        const { expiry } = await raw.hgetall(`${namespace}warm-up`);
        expect(Math.abs(Number(expiry) - (await serverSeconds()) - 60)).toBeLessThan(30);
        await raw.del(`${namespace}warm-up`);
      }
      const late = open({}, { wallClockMs: () => Date.now() - 3_600_000 });
      await late.getOrSet("warm-up", 60, () => 1);
      expect(await late.getOrSet("stale", 60, () => "recomputed")).toBe("recomputed");
    });
  });

  describe("values", () => {
    it.each([null, undefined, 0, false, "", [], {}, "null", "null ", "ünï\u0000cödé", 1e308])(
      "%o comes back from the miss and from the hit",
      async (value) => {
        const cache = open();
        const recompute = vi.fn(() => value);
        expect(await cache.getOrSet("k", 60, recompute)).toEqual(value);
        expect(await cache.getOrSet("k", 60, recompute)).toEqual(value);
        expect(recompute).toHaveBeenCalledTimes(1);
      },
    );

    it("undefined is null to other readers", async () => {
      await open().getOrSet("k", 60, () => undefined);
      expect(await valueOf("k")).toBe("null ");
      expect(JSON.parse((await valueOf("k"))!)).toBeNull();
    });

    it("of any bytes come back with a serializer that keeps them", async () => {
      const cache = open({ serializer: (value) => value as Uint8Array, deserializer: (stored) => stored });
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
      expect(await cache.getOrSet("k", 60, () => bytes)).toEqual(bytes);
      const again = await cache.getOrSet("k", 60, () => Buffer.alloc(0));
      expect(again).toEqual(bytes);
      again.fill(0);
      expect(await cache.getOrSet("k", 60, () => Buffer.alloc(0))).toEqual(bytes);
    });

    it("keep their types with a serializer that does", async () => {
      const cache = open({ serializer: serialize, deserializer: deserialize });
      const value = { at: new Date(5), tags: new Set(["a"]), big: 2n };
      expect(await cache.getOrSet("k", 60, () => value)).toEqual(value);
      expect(await cache.getOrSet("k", 60, () => ({ ...value, big: 3n }))).toEqual(value);
    });

    it("that cannot be read back right after they were serialized reject, and are not hidden", async () => {
      const cause = new Error("no");
      const cache = open({
        serializer: String,
        deserializer: () => {
          throw cause;
        },
      });
      expect(await errorOf(cache.getOrSet("k", 60, () => 1))).toMatchObject({
        name: "SerializationError",
        key: "k",
        cause,
      });
    });
  });

  describe("an early refresh", () => {
    it("is awaited by the caller that wins it; the others keep the valid value", async () => {
      await writeEntry("k", '"old"', 60);
      const winner = open({}, eager);
      const rival = open({}, eager);
      const gate = deferred();
      const refreshed = winner.getOrSet("k", 60, async () => {
        await gate.promise;
        return "new";
      });
      await eventually(() => expect(winner.stats().rebuilds).toBe(1));
      const recompute = vi.fn();
      expect(await winner.getOrSet("k", 60, recompute)).toBe("old");
      expect(await rival.getOrSet("k", 60, recompute)).toBe("old");
      expect(recompute).not.toHaveBeenCalled();
      gate.resolve();
      expect(await refreshed).toBe("new");
      expect(await valueOf("k")).toBe('"new"');
      expect(winner.stats()).toMatchObject({ earlyRefreshes: 1, rebuilds: 1, hits: 1, waits: 0 });
      expect(rival.stats()).toMatchObject({ earlyRefreshes: 0, hits: 1, waits: 0 });
    });

    it("does not happen with beta 0, of the instance or of the call", async () => {
      await writeEntry("k", '"old"', 60);
      expect(await open({ beta: 0 }, eager).getOrSet("k", 60, () => "new")).toBe("old");
      expect(await open({}, eager).getOrSet("k", 60, () => "new", { beta: 0 })).toBe("old");
      expect(await open({ beta: 0 }, eager).getOrSet("k", 60, () => "new", { beta: 1 })).toBe("new");
    });

    it("is drawn for by each of the callers of one turn: by the one that it falls on, in its own context", async () => {
      await writeEntry("k", '"old"', 60);
      const draws = [1, 1, Number.MIN_VALUE, 1];
      const cache = open({}, { random: () => draws.shift()! });
      const request = new AsyncLocalStorage<string>();
      const call = (name: string) => request.run(name, () => cache.getOrSet("k", 60, () => `${request.getStore()}'s`));
      expect(await Promise.all(["one", "two", "three", "four"].map(call))).toEqual(["old", "old", "three's", "old"]);
      expect(draws).toEqual([]);
      expect(cache.stats()).toMatchObject({ hits: 3, earlyRefreshes: 1, rebuilds: 1, misses: 0 });
    });

    it("comes earlier with a larger beta", async () => {
      await writeEntry("k", '"old"', 60, 1);
      const atE = { random: () => Math.exp(-1) }; // ln(u) = -1: delta * beta seconds ahead.
      expect(await open({ beta: 30 }, atE).getOrSet("k", 60, () => "new")).toBe("old");
      expect(await open({ beta: 90 }, atE).getOrSet("k", 60, () => "new")).toBe("new");
    });

    it("rejects its caller when it fails, as in Python, and leaves the value and a free lock", async () => {
      await writeEntry("k", '"old"', 60);
      const cause = new Error("down");
      const error = await errorOf(open({}, eager).getOrSet("k", 60, () => Promise.reject(cause)));
      expect(error).toBeInstanceOf(RecomputeError);
      expect(error.cause).toBe(cause);
      expect(await valueOf("k")).toBe('"old"');
      await expect.poll(() => lockOf("k")).toBeNull();
    });

    it("in the background gives even its winner the value at hand at once", async () => {
      await writeEntry("k", '"old"', 60);
      const gate = deferred();
      for (const [cache, options] of [
        [open({ earlyRefresh: "background" }, eager), {}],
        [open({}, eager), { earlyRefresh: "background" }],
      ] as const) {
        await writeEntry("k", '"old"', 60);
        const recompute = async () => {
          await gate.promise;
          return "new";
        };
        expect(await cache.getOrSet("k", 60, recompute, options)).toBe("old");
        gate.resolve();
        await cache.idle();
        expect(await valueOf("k")).toBe('"new"');
        expect(cache.stats()).toMatchObject({ earlyRefreshes: 1, hits: 1 });
      }
    });

    it("that fails in the background is an event, never an unhandled rejection", async () => {
      await writeEntry("k", '"old"', 60);
      const cause = new Error("down");
      const cache = open({ earlyRefresh: "background" }, eager);
      const ends: CacheFenceEvents["cachefence:rebuild-end"][] = [];
      const listener = (message: unknown) => void ends.push(message as (typeof ends)[0]);
      subscribe("cachefence:rebuild-end", listener);
      expect(await cache.getOrSet("k", 60, () => Promise.reject(cause))).toBe("old");
      await cache.idle();
      unsubscribe("cachefence:rebuild-end", listener);
      expect(ends).toMatchObject([{ key: "k", stored: false, error: { name: "RecomputeError", cause } }]);
      expect(await valueOf("k")).toBe('"old"');
      expect(await lockOf("k")).toBeNull();
    });

    it("that gets no lock in the background is an event: its name holds something else", async () => {
      await writeEntry("k", '"old"', 60);
      await raw.rpush(`${namespace}k:lock`, "somebody's list");
      const cache = open({ earlyRefresh: "background" }, eager);
      const recompute = vi.fn();
      const events = await eventsDuring("cachefence:redis-error", async () => {
        expect(await cache.getOrSet("k", 60, recompute)).toBe("old");
        await cache.idle();
      });
      expect(events).toMatchObject([{ key: "k", error: { message: expect.stringContaining("WRONGTYPE") as string } }]);
      expect(cache.stats()).toMatchObject({ hits: 1, rebuilds: 0, redisErrors: 1 });
      expect(recompute).not.toHaveBeenCalled();
    });

    it("does not rebuild what another process has refreshed between the read and the claim", async () => {
      await writeEntry("k", '"old"', 60);
      const cache = open({}, eager);
      const recompute = vi.fn();
      // The draw happens between the two: the rival's value is on its way before the claim.
      const racing = new CacheFence(
        redis,
        { namespace },
        {
          ...systemRuntime,
          random: () => {
            void redis.hset(`${namespace}k`, "v", '"theirs"', "delta", "2");
            return Number.MIN_VALUE;
          },
        },
      );
      expect(await racing.getOrSet("k", 60, recompute)).toBe("theirs");
      expect(recompute).not.toHaveBeenCalled();
      await expect.poll(() => lockOf("k")).toBeNull();
      expect(cache.stats().rebuilds).toBe(0);
    });
  });

  describe("staleFor", () => {
    it("keeps the entry in Redis for ttl + staleFor, for the instance and for the call", async () => {
      await open({ staleFor: 1_000 }).getOrSet("instance", 60, () => 1);
      await open().getOrSet("call", 60, () => 1, { staleFor: 1_000 });
      await open({ staleFor: 1_000 }).set("set", 60, 1);
      await open().getOrSet("none", 60, () => 1);
      for (const key of ["instance", "call", "set"]) expect(await raw.ttl(namespace + key)).toBeGreaterThan(1_000);
      expect(await raw.ttl(`${namespace}none`)).toBeLessThanOrEqual(60);
    });

    it("serves the stale value while another rebuilds; only the inline winner waits", async () => {
      await writeEntry("k", '"stale"', -5);
      const cache = open({ staleFor: 60 });
      const rival = open({ staleFor: 60 });
      const gate = deferred();
      const winner = cache.getOrSet("k", 60, async () => {
        await gate.promise;
        return "new";
      });
      await eventually(() => expect(cache.stats().rebuilds).toBe(1));
      const recompute = vi.fn();
      expect(await cache.getOrSet("k", 60, recompute)).toBe("stale");
      expect(await rival.getOrSet("k", 60, recompute)).toBe("stale");
      expect(recompute).not.toHaveBeenCalled();
      expect(cache.stats()).toMatchObject({ staleServes: 1, hits: 0, misses: 0 });
      gate.resolve();
      expect(await winner).toBe("new");
    });

    it("serves even the winner the stale value in background mode", async () => {
      await writeEntry("k", '"stale"', -5);
      const cache = open({ staleFor: 60, earlyRefresh: "background" });
      expect(await cache.getOrSet("k", 60, () => "new")).toBe("stale");
      await cache.idle();
      expect(await cache.getOrSet("k", 60, () => "newer")).toBe("new");
    });

    it("serves the stale value when the rebuild fails, to the winner too", async () => {
      await writeEntry("k", '"stale"', -5);
      const cache = open({ staleFor: 60 });
      expect(await cache.getOrSet("k", 60, () => Promise.reject(new Error("down")))).toBe("stale");
      expect(await cache.getOrSet("k", 60, () => Promise.reject(new Error("down")))).toBe("stale");
      expect(cache.stats()).toMatchObject({ rebuilds: 2, staleServes: 2 });
    });

    it("serves the valid value when an early refresh fails", async () => {
      await writeEntry("k", '"valid"', 60);
      expect(await open({ staleFor: 60 }, eager).getOrSet("k", 60, () => Promise.reject(new Error("down")))).toBe(
        "valid",
      );
    });

    it("ends: beyond it the value is gone, and the failure is the caller's", async () => {
      await writeEntry("k", '"stale"', -5);
      const cache = open({ staleFor: 4 });
      expect(await errorOf(cache.getOrSet("k", 60, () => Promise.reject(new Error("down"))))).toBeInstanceOf(
        RecomputeError,
      );
      expect(await cache.getOrSet("k", 60, () => Promise.reject(new Error("down")), { staleFor: 60 })).toBe("stale");
      expect(await cache.getOrSet("k", 60, () => "new")).toBe("new");
    });

    it("never serves past an invalidate", async () => {
      await writeEntry("k", '"stale"', -5);
      const cache = open({ staleFor: 60 });
      await cache.invalidate("k");
      expect(await errorOf(cache.getOrSet("k", 60, () => Promise.reject(new Error("down"))))).toBeInstanceOf(
        RecomputeError,
      );
    });
  });

  describe("ttl as a function", () => {
    it("takes the lifetime from the value", async () => {
      const token = await open().getOrSet(
        "k",
        (value) => value.livesFor,
        () => ({ livesFor: 500 }),
      );
      expect(token).toEqual({ livesFor: 500 });
      expect(await raw.ttl(`${namespace}k`)).toBeGreaterThan(400);
    });

    it("may be asynchronous in what it throws: its failure is a RecomputeError", async () => {
      const cause = new Error("no ttl");
      const ttl = () => {
        throw cause;
      };
      const error = await errorOf(open().getOrSet("k", ttl, () => 1));
      expect(error).toBeInstanceOf(RecomputeError);
      expect(error.cause).toBe(cause);
    });

    it.each([-1, NaN, Infinity, "60"])(
      "that returns %o is refused, stores nothing, and frees the lock",
      async (ttl) => {
        const error = await errorOf(
          open().getOrSet(
            "k",
            () => ttl as number,
            () => 1,
          ),
        );
        expect(error.message).toMatch(
          /^Expected `ttl\(value\)` to be a number of seconds >= 0 and <= 100000000000, got /,
        );
        expect(await raw.exists(`${namespace}k`)).toBe(0);
        await expect.poll(() => lockOf("k")).toBeNull();
      },
    );

    it("of 0 serves all who joined, stores nothing, and frees the lock", async () => {
      const cache = open();
      const gate = deferred();
      const recompute = vi.fn(async () => {
        await gate.promise;
        return { fleeting: true };
      });
      const calls = [1, 2, 3].map(() => cache.getOrSet("k", () => 0, recompute));
      await eventually(() => expect(cache.stats().coalesced).toBe(2));
      gate.resolve();
      expect(await Promise.all(calls)).toEqual([{ fleeting: true }, { fleeting: true }, { fleeting: true }]);
      expect(recompute).toHaveBeenCalledTimes(1);
      expect(await raw.exists(`${namespace}k`, `${namespace}k:lock`)).toBe(0);
    });

    it("of 0 leaves a stale value that was there before", async () => {
      await writeEntry("k", '"stale"', -5);
      expect(
        await open({ staleFor: 60 }).getOrSet(
          "k",
          () => 0,
          () => "new",
        ),
      ).toBe("new");
      expect(await valueOf("k")).toBe('"stale"');
    });
  });

  describe("recomputeTimeout", () => {
    it.each(["instance", "call"])(
      "of the %s aborts the signal, and fails the rebuild with one error",
      async (where) => {
        const cache = open(where === "instance" ? { recomputeTimeout: 0.05 } : {});
        let reason: unknown;
        const hung = new Promise<never>(() => undefined);
        const call = cache.getOrSet(
          "k",
          60,
          ({ signal }) => {
            signal.addEventListener("abort", () => {
              reason = signal.reason;
            });
            return hung;
          },
          where === "call" ? { recomputeTimeout: 0.05 } : {},
        );
        const error = await errorOf(call);
        expect(error).toBeInstanceOf(RecomputeTimeoutError);
        expect(error.key).toBe("k");
        expect(reason).toBe(error);
        await expect.poll(() => lockOf("k")).toBeNull();
      },
    );

    it("ignores what the recompute returns or throws later", async () => {
      for (const late of [() => "late", () => Promise.reject(new Error("late"))]) {
        const gate = deferred();
        const cache = open({ recomputeTimeout: 0.05 });
        const recompute = async () => {
          await gate.promise;
          return late();
        };
        expect(await errorOf(cache.getOrSet("k", 60, recompute))).toBeInstanceOf(RecomputeTimeoutError);
        gate.resolve();
        await cache.idle();
        expect(await raw.exists(`${namespace}k`)).toBe(0);
      }
    });

    it("gives a signal that does not abort when there is none, or when the recompute is in time", async () => {
      const signals: AbortSignal[] = [];
      const recompute = ({ signal }: { signal: AbortSignal }) => signals.push(signal);
      await open().getOrSet("a", 60, recompute);
      await open({ recomputeTimeout: 30 }).getOrSet("b", 60, recompute);
      expect(signals.map((signal) => signal.aborted)).toEqual([false, false]);
    });

    it("serves the stale value under staleFor", async () => {
      await writeEntry("k", '"stale"', -5);
      const hung = () => new Promise<never>(() => undefined);
      expect(await open({ staleFor: 60, recomputeTimeout: 0.05 }).getOrSet("k", 60, hung)).toBe("stale");
    });
  });

  describe("a caller's signal", () => {
    it("ends its wait with its reason; the rebuild goes on for the others", async () => {
      const cache = open();
      const gate = deferred();
      const controller = new AbortController();
      const reason = new Error("client went away");
      const recompute = vi.fn(async () => {
        await gate.promise;
        return "value";
      });
      const starter = errorOf(cache.getOrSet("k", 60, recompute, { signal: controller.signal }));
      await eventually(() => expect(recompute).toHaveBeenCalledTimes(1));
      const other = cache.getOrSet("k", 60, recompute);
      await eventually(() => expect(cache.stats().coalesced).toBe(1));
      controller.abort(reason);
      expect(await starter).toBe(reason);
      gate.resolve();
      expect(await other).toBe("value");
      expect(recompute).toHaveBeenCalledTimes(1);
    });

    it("that has aborted already starts nothing", async () => {
      const recompute = vi.fn();
      const cache = open();
      const error = await errorOf(cache.getOrSet("k", 60, recompute, { signal: AbortSignal.abort() }));
      expect(error.name).toBe("AbortError");
      await cache.idle();
      expect(recompute).not.toHaveBeenCalled();
      expect(cache.stats()).toMatchObject({ misses: 0, hits: 0 });
    });

    it("that aborts while the read is out starts no recompute", async () => {
      const cache = open();
      await cache.getOrSet("warm-up", 60, () => 1);
      const controller = new AbortController();
      const reason = new Error("client went away");
      const recompute = vi.fn();
      const call = errorOf(cache.getOrSet("k", 60, recompute, { signal: controller.signal }));
      controller.abort(reason);
      expect(await call).toBe(reason);
      await redis.ping(); // Answered after the read.
      await settle();
      await cache.idle();
      expect(recompute).not.toHaveBeenCalled();
      expect(cache.stats()).toMatchObject({ misses: 1, rebuilds: 1 }); // Of the warm-up.
    });

    it("that aborts while the read is out makes no hit of what that finds", async () => {
      const cache = open();
      await cache.getOrSet("k", 60, () => 1);
      const controller = new AbortController();
      const call = errorOf(cache.getOrSet("k", 60, () => 2, { signal: controller.signal }));
      controller.abort(new Error("client went away"));
      expect((await call).message).toBe("client went away");
      await redis.ping(); // Answered after the read.
      await settle();
      expect(cache.stats().hits).toBe(0);
    });

    it("that aborts the wait for a rebuild starts none when that one is fenced off afterwards", async () => {
      const cache = open();
      const gate = deferred();
      const first = cache.getOrSet("k", 60, () => gate.promise.then(() => "before"));
      await eventually(() => expect(cache.stats().rebuilds).toBe(1));
      const controller = new AbortController();
      const reason = new Error("client went away");
      const recompute = vi.fn();
      const joined = errorOf(cache.getOrSet("k", 60, recompute, { signal: controller.signal }));
      await eventually(() => expect(cache.stats().coalesced).toBe(1));
      controller.abort(reason);
      expect(await joined).toBe(reason);
      await open().invalidate("k");
      gate.resolve();
      expect(await first).toBe("before");
      await settle();
      await redis.ping(); // Answered after whatever it would have asked for again.
      await settle();
      await cache.idle();
      expect(recompute).not.toHaveBeenCalled();
      expect(cache.stats().rebuilds).toBe(1);
    });

    it("is listened to once, though it stands for fifty calls: node warns of no leak", async () => {
      const cache = open();
      const gate = deferred();
      const { signal } = new AbortController();
      setMaxListeners(10, signal);
      const warnings: Error[] = [];
      const listener = (warning: Error) => void warnings.push(warning);
      process.on("warning", listener);
      try {
        const calls = Array.from({ length: 50 }, (_, at) =>
          cache.getOrSet(`k${at}`, 60, () => gate.promise, { signal }),
        );
        await eventually(() => expect(cache.stats().rebuilds).toBe(50));
        expect(getEventListeners(signal, "abort")).toHaveLength(1);
        gate.resolve();
        await Promise.all(calls);
        await settle();
      } finally {
        process.off("warning", listener);
      }
      expect(warnings).toEqual([]);
      expect(getEventListeners(signal, "abort")).toEqual([]);
    });

    it("keeps no listener once the call has ended", async () => {
      const { signal } = new AbortController();
      const add = vi.spyOn(signal, "addEventListener");
      const remove = vi.spyOn(signal, "removeEventListener");
      const cache = open();
      await cache.getOrSet("k", 60, () => 1, { signal });
      await cache.getOrSet("k", 60, () => 1, { signal });
      await errorOf(cache.getOrSet("l", 60, () => Promise.reject(new Error("no")), { signal }));
      expect(add).toHaveBeenCalledTimes(3);
      expect(remove.mock.calls.map(([, listener]) => listener)).toEqual(add.mock.calls.map(([, listener]) => listener));
    });
  });

  describe("set and invalidate", () => {
    it("set gives the value to later callers, with delta 0, so that it is not refreshed early", async () => {
      const cache = open({ beta: 1_000 }, eager);
      await cache.set("k", 60, { a: 1 });
      const recompute = vi.fn();
      expect(await cache.getOrSet("k", 60, recompute)).toEqual({ a: 1 });
      expect(recompute).not.toHaveBeenCalled();
      expect(await raw.hget(`${namespace}k`, "delta")).toBe("0");
      expect(await raw.ttl(`${namespace}k`)).toBeGreaterThan(50);
    });

    it("invalidate takes any number of keys, none too, and missing ones", async () => {
      const cache = open();
      await cache.invalidate();
      await Promise.all(["a", "b", "c"].map((key) => cache.set(key, 60, key)));
      await cache.invalidate("a", "b", "never there");
      expect(await raw.exists(...["a", "b", "c"].map((key) => namespace + key))).toBe(1);
    });

    it.each(["invalidate", "set"] as const)("%s refuses the store of a rebuild in flight", async (fence) => {
      const cache = open();
      const gate = deferred();
      const call = cache.getOrSet("k", 60, async () => {
        await gate.promise;
        return "before";
      });
      await eventually(() => expect(cache.stats().rebuilds).toBe(1));
      await (fence === "set" ? open().set("k", 60, "after") : open().invalidate("k"));
      gate.resolve();
      expect(await call).toBe("before"); // It had called before the fence.
      expect(await valueOf("k")).toBe(fence === "set" ? '"after"' : null);
      expect(cache.stats()).toMatchObject({ refusedStores: 1 });
    });

    it("a caller that joined a rebuild after an invalidate asks again", async () => {
      const cache = open();
      const gate = deferred();
      let source = "before";
      const read = async () => {
        const value = source;
        await gate.promise;
        return value;
      };
      const first = cache.getOrSet("k", 60, read);
      await eventually(() => expect(cache.stats().rebuilds).toBe(1));
      source = "after";
      await open().invalidate("k");
      const second = cache.getOrSet("k", 60, read);
      await eventually(() => expect(cache.stats().coalesced).toBe(1));
      gate.resolve();
      expect(await Promise.all([first, second])).toEqual(["before", "after"]);
    });

    it("a caller that began after an invalidate is not failed by a recompute from before: it asks again", async () => {
      const cache = open();
      const gate = deferred();
      const table = new Map<string, string>();
      const read = vi.fn(async () => {
        const seen = table.get("k");
        await gate.promise;
        if (seen === undefined) throw new Error("no such row");
        return seen;
      });
      const before = [1, 2].map(() => errorOf(cache.getOrSet("k", 60, read)));
      await eventually(() => expect(read).toHaveBeenCalledTimes(1));
      table.set("k", "row");
      await open().invalidate("k");
      const after = [1, 2, 3].map(() => cache.getOrSet("k", 60, read));
      await eventually(() => expect(cache.stats().coalesced).toBe(4));
      gate.resolve();
      expect(await Promise.all(after)).toEqual(["row", "row", "row"]);
      for (const error of await Promise.all(before)) expect(error).toBeInstanceOf(RecomputeError);
      expect(read).toHaveBeenCalledTimes(2);
    });

    it("callers that ask again after an invalidate share the next failure too: one attempt for all", async () => {
      const cache = open();
      const gate = deferred();
      const recompute = vi.fn(() => gate.promise);
      const first = errorOf(cache.getOrSet("k", 60, recompute));
      await eventually(() => expect(recompute).toHaveBeenCalledTimes(1));
      await open().invalidate("k");
      const after = Array.from({ length: 5 }, () => errorOf(cache.getOrSet("k", 60, recompute)));
      await eventually(() => expect(cache.stats().coalesced).toBe(5));
      gate.reject(new Error("source is down"));
      for (const error of await Promise.all([first, ...after])) expect(error).toBeInstanceOf(RecomputeError);
      expect(recompute).toHaveBeenCalledTimes(2);
    });

    it.each([-3_600_000, 3_600_000])(
      "set, though a process calls nothing else, writes an expiry in Redis' time on a host %d ms off",
      async (offsetMs) => {
        const before = await serverSeconds();
        await open({}, { wallClockMs: () => Date.now() + offsetMs }).set("k", 60, "primed");
        const expiry = Number(await raw.hget(`${namespace}k`, "expiry"));
        expect(Math.abs(expiry - before - 60)).toBeLessThan(30);
        expect(await open().getOrSet("k", 60, () => "recomputed")).toBe("primed");
      },
    );

    it("set rejects what cannot be serialized, before anything is changed", async () => {
      const cache = open();
      await cache.set("k", 60, "kept");
      expect(await errorOf(cache.set("k", 60, 1n))).toBeInstanceOf(SerializationError);
      expect(await valueOf("k")).toBe('"kept"');
    });
  });

  describe("what is not cachefence's", () => {
    const foreign: [
      name: string,
      type: string,
      at: "entry" | "lock" | "audience",
      put: (key: string) => Promise<unknown>,
    ][] = [
      ["a string at the entry", "string", "entry", (key) => raw.set(key, "theirs")],
      ["a list at the entry", "list", "entry", (key) => raw.rpush(key, "theirs")],
      ["a hash without `v` at the entry", "hash", "entry", (key) => raw.hset(key, "field", "theirs")],
      ["a set at the entry", "set", "entry", (key) => raw.sadd(key, "theirs")],
      ["a hash at the lock", "hash", "lock", (key) => raw.hset(key, "field", "theirs")],
      ["a list at the lock", "list", "lock", (key) => raw.rpush(key, "theirs")],
      ["a string without a lease at the lock", "string", "lock", (key) => raw.set(key, "theirs")],
      ["a hash at the audience", "hash", "audience", (key) => raw.hset(key, "field", "theirs")],
      ["a string at the audience", "string", "audience", (key) => raw.set(key, "theirs")],
    ];

    it.each(foreign)("%s is an error of getOrSet, set and invalidate, and stays", async (_name, type, at, put) => {
      const cache = open({ waitForLock: 0.2 });
      const redisKey = `${namespace}k${at === "entry" ? "" : `:${at}`}`;
      await put(redisKey);
      const before = await raw.dumpBuffer(redisKey);
      for (const attempt of [
        () => cache.getOrSet("k", 60, () => "ours"),
        () => cache.set("k", 60, "ours"),
        () => cache.invalidate("k"),
        () => cache.invalidate("other", "k"),
      ]) {
        const error = await errorOf(attempt());
        expect(error).toBeInstanceOf(CacheFenceError);
        expect(error.name).toBe("CacheFenceError");
        expect(error.key).toBe("k");
        expect(error.message).toContain(JSON.stringify(redisKey));
        expect(error.message).toContain(` ${type} `);
        expect(await raw.dumpBuffer(redisKey)).toEqual(before);
        expect(await raw.pttl(redisKey)).toBe(-1);
      }
      // And nothing of ours beside it.
      const ours = [`${namespace}k`, `${namespace}k:lock`, `${namespace}k:audience`];
      await expect.poll(() => raw.exists(...ours)).toBe(1);
    });

    it("of another type is an error of peek too", async () => {
      await raw.set(`${namespace}k`, "theirs");
      const error = await errorOf(open().peek("k"));
      expect(error).toBeInstanceOf(CacheFenceError);
      expect(error.message).toContain(" string ");
    });

    it("is an error of all that wait for a rebuild, if it comes during that", async () => {
      const cache = open();
      const gate = deferred<string>();
      const calls = Array.from({ length: 3 }, () => errorOf(cache.getOrSet("k", 60, () => gate.promise)));
      await eventually(() => expect(cache.stats()).toMatchObject({ rebuilds: 1, coalesced: 2 }));
      await raw.set(`${namespace}k`, "theirs");
      gate.resolve("ours");
      for (const error of await Promise.all(calls)) {
        expect(error).toBeInstanceOf(CacheFenceError);
        expect(error.message).toContain(" string ");
      }
      expect(await raw.get(`${namespace}k`)).toBe("theirs");
    });

    it("is not sought behind an error of ours whose key only reads like Redis' own error", async () => {
      const error = await errorOf(open().getOrSet<unknown>("WRONGTYPE", 60, () => 1n));
      expect(error).toBeInstanceOf(SerializationError);
    });

    it("does not keep invalidate from fencing the other keys", async () => {
      const cache = open();
      await raw.set(`${namespace}theirs`, "theirs");
      await Promise.all([cache.set("a", 60, 1), cache.set("b", 60, 1)]);
      expect(await errorOf(cache.invalidate("a", "theirs", "b"))).toMatchObject({ key: "theirs" });
      expect(await raw.exists(`${namespace}a`, `${namespace}b`)).toBe(0);
    });
  });

  describe("an entry of ours that cannot be read", () => {
    it.each([
      ["v", "{"],
      ["delta", "soon"],
      ["expiry", "nan"],
      ["delta", "-1"],
    ])("with %s = %o is a miss, an event, and rebuilt", async (field, content) => {
      await writeEntry("k", '"old"', 60);
      await raw.hset(`${namespace}k`, field, content);
      const cache = open();
      const corrupt: unknown[] = [];
      const listener = (message: unknown) => void corrupt.push(message);
      subscribe("cachefence:corrupt-entry", listener);
      expect(await cache.getOrSet("k", 60, () => "new")).toBe("new");
      unsubscribe("cachefence:corrupt-entry", listener);
      expect(corrupt).toMatchObject([{ key: "k" }]);
      expect(await raw.hmget(`${namespace}k`, "v")).toEqual(['"new"']);
      expect(await cache.getOrSet("k", 60, () => "newer")).toBe("new");
    });

    it("is a miss and an event too for who has waited until another process stored it", async () => {
      const old = open({ serializer: () => "<old>", deserializer: () => "old" });
      const cache = open();
      const gate = deferred();
      const holder = old.getOrSet("k", 60, () => gate.promise.then(() => "old"));
      await eventually(() => expect(old.stats().rebuilds).toBe(1));
      const recompute = vi.fn(() => "new");
      const corrupt = await eventsDuring("cachefence:corrupt-entry", async () => {
        const waiter = cache.getOrSet("k", 60, recompute);
        const waitedFor = `${namespace}k`;
        await until("it listens", async () => (await waitersOf(raw, waitedFor)) === 1);
        gate.resolve();
        expect(await Promise.all([holder, waiter])).toEqual(["old", "new"]);
      });
      expect(corrupt).toMatchObject([{ key: "k", error: { name: "SerializationError" } }]);
      expect(recompute).toHaveBeenCalledTimes(1);
      expect(await valueOf("k")).toBe('"new"');
      expect(cache.stats()).toMatchObject({ misses: 1, waits: 1, rebuilds: 1 });
    });

    it("is no wait for anybody: the callers of one process rebuild it once", async () => {
      await writeEntry("k", "{", 60);
      const cache = open();
      const recompute = vi.fn(() => "new");
      expect(await Promise.all([1, 2, 3].map(() => cache.getOrSet("k", 60, recompute)))).toEqual(["new", "new", "new"]);
      expect(recompute).toHaveBeenCalledTimes(1);
    });
  });

  describe("idle, close and stats", () => {
    it("idle waits for what runs in the background, and for nothing else", async () => {
      const cache = open({ earlyRefresh: "background" }, eager);
      await cache.idle();
      await writeEntry("k", '"old"', 60);
      const gate = deferred();
      await cache.getOrSet("k", 60, async () => {
        await gate.promise;
        return "new";
      });
      let isIdle = false;
      const idle = cache.idle().then(() => (isIdle = true));
      await raw.ping();
      expect(isIdle).toBe(false);
      gate.resolve();
      await idle;
      expect(await valueOf("k")).toBe('"new"');
      expect(await lockOf("k")).toBeNull();
    });

    it("idle waits until the lock of a failed rebuild is free: the client may be closed then", async () => {
      const client = new major.Redis(url);
      const asked = deferred();
      const go = deferred();
      const run = client.eval.bind(client) as (...args: unknown[]) => Promise<unknown>;
      const runLater = (...args: unknown[]) => {
        asked.resolve();
        return go.promise.then(() => run(...args));
      };
      Object.assign(client, { eval: runLater });
      const cache = new CacheFence(client, { namespace, redisTimeout: 20 });
      void errorOf(cache.getOrSet("k", 60, () => Promise.reject(new Error("no"))));
      await asked.promise;
      let isIdle = false;
      const idle = cache.idle().then(() => (isIdle = true));
      await raw.ping();
      expect(isIdle).toBe(false);
      go.resolve();
      await idle;
      client.disconnect();
      expect(await lockOf("k")).toBeNull();
    });

    it("idle waits for a rebuild whose callers were answered by another process", async () => {
      const holder = open({ waitForLock: 60 });
      const finish = deferred<string>();
      const held = holder.getOrSet("k", 60, () => finish.promise);
      await eventually(() => expect(holder.stats().rebuilds).toBe(1));
      const taker = open({ waitForLock: 0.1 });
      const late = deferred<string>();
      const taken = taker.getOrSet("k", 60, () => late.promise);
      await until("it is taken over", () => taker.stats().rebuilds === 1);
      finish.resolve("first");
      expect(await Promise.all([held, taken])).toEqual(["first", "first"]);
      let isIdle = false;
      const idle = taker.idle().then(() => (isIdle = true));
      await raw.ping();
      expect(isIdle).toBe(false);
      late.resolve("late");
      await idle;
      expect(taker.stats().refusedStores).toBe(1);
      await Promise.all([holder.close(), taker.close()]);
    });

    it("idle waits for rebuilds whose caller has aborted, and does not reject when they fail", async () => {
      const cache = open();
      const gate = deferred();
      const controller = new AbortController();
      const call = errorOf(
        cache.getOrSet("k", 60, () => gate.promise.then(() => Promise.reject(new Error("no"))), {
          signal: controller.signal,
        }),
      );
      await eventually(() => expect(cache.stats().rebuilds).toBe(1));
      controller.abort();
      await call;
      const idle = cache.idle();
      gate.resolve();
      await idle;
      expect(await lockOf("k")).toBeNull();
    });

    it("close leaves the caller's client open and the cache working, and may be called again", async () => {
      const cache = open();
      await cache.getOrSet("k", 60, () => 1);
      await cache.close();
      await cache.close();
      expect(redis.status).toBe("ready");
      expect(await cache.getOrSet("k", 60, () => 2)).toBe(1);
      expect(await cache.getOrSet("l", 60, () => 2)).toBe(2);
    });

    it("close ends the mailbox, and so does `await using`", async () => {
      for (const end of [(cache: CacheFence) => cache.close(), (cache: CacheFence) => cache[Symbol.asyncDispose]()]) {
        await raw.set(`${namespace}k:lock`, "held", "PX", 60_000);
        const cache = open();
        const call = cache.getOrSet("k", 60, () => 1);
        await expect.poll(() => waitersOf(raw, `${namespace}k`)).toBe(1);
        const [waiter] = await raw.zrange(`${namespace}k:audience`, 0, -1);
        const channel = `cachefence:${waiter!.slice(1)}`;
        expect(await raw.pubsub("NUMSUB", channel)).toEqual([channel, 1]);
        await end(cache);
        expect(await raw.exists(`${namespace}k:audience`)).toBe(0);
        await expect.poll(() => raw.pubsub("NUMSUB", channel)).toEqual([channel, 0]);
        // It looks, and waits to be told no more.
        const looks = vi.spyOn(redis, "evalsha");
        await until("it has looked", () => looks.mock.settledResults.length > 2);
        looks.mockRestore();
        expect(await raw.exists(`${namespace}k:audience`)).toBe(0);
        await raw.del(`${namespace}k:lock`);
        expect(await call).toBe(1); // By looking.
        await cache.invalidate("k");
      }
    });

    it("counts a call once, though it asks again after an invalidate", async () => {
      const cache = open();
      const gate = deferred();
      const first = cache.getOrSet("k", 60, () => gate.promise.then(() => "before"));
      await eventually(() => expect(cache.stats().rebuilds).toBe(1));
      await open().invalidate("k");
      const second = cache.getOrSet("k", 60, () => "after");
      await eventually(() => expect(cache.stats().coalesced).toBe(1));
      gate.resolve();
      expect(await Promise.all([first, second])).toEqual(["before", "after"]);
      expect(cache.stats()).toMatchObject({ misses: 2, rebuilds: 2 });
    });

    it("counts one call of each kind", async () => {
      const cache = open();
      await cache.getOrSet("k", 60, () => 1);
      await cache.getOrSet("k", 60, () => 1);
      expect(cache.stats()).toEqual({
        hits: 1,
        misses: 1,
        earlyRefreshes: 0,
        rebuilds: 1,
        waits: 0,
        coalesced: 0,
        takeovers: 0,
        refusedStores: 0,
        staleServes: 0,
        redisErrors: 0,
        memoryHits: 0,
        fenceWaits: 0,
        redis: "ready",
      });
    });
  });

  describe("the caller's client", () => {
    it("is not changed: no command, no option, no listener that stays", async () => {
      const client = new major.Redis(url);
      try {
        await client.ping();
        const look = () => ({
          own: Reflect.ownKeys(client),
          listeners: client.eventNames().map((name) => [name, client.listenerCount(name)]),
          options: { ...client.options },
        });
        const before = look();
        const cache = new CacheFence(client, { namespace });
        await Promise.all(Array.from({ length: 50 }, (_, at) => cache.getOrSet(`k${at}`, 60, () => at)));
        await raw.set(`${namespace}held:lock`, "held", "PX", 100);
        await cache.getOrSet("held", 60, () => 1);
        await cache.invalidate("k1");
        expect(look()).toEqual(before);
        await cache.close();
        expect(look()).toEqual(before);
      } finally {
        client.disconnect();
      }
    });

    /** A client with the documented commands, and no `duplicate`. */
    function withoutDuplicate(): RedisClient {
      const commands = REQUIRED_COMMANDS.map((name) => [name, (redis[name] as () => unknown).bind(redis)]);
      return Object.fromEntries(commands) as RedisClient;
    }

    it("need not have a duplicate: its waiters poll", async () => {
      const holder = open();
      const cache = new CacheFence(withoutDuplicate(), { namespace });
      const gate = deferred();
      const held = holder.getOrSet("k", 60, () => gate.promise.then(() => "value"));
      await eventually(() => expect(holder.stats().rebuilds).toBe(1));
      const recompute = vi.fn();
      const waiter = cache.getOrSet("k", 60, recompute);
      await eventually(() => expect(cache.stats().misses).toBe(1));
      await settle();
      await redis.ping();
      await settle();
      gate.resolve();
      expect(await Promise.all([held, waiter])).toEqual(["value", "value"]);
      expect(recompute).not.toHaveBeenCalled();
      expect(cache.stats()).toMatchObject({ waits: 1, redisErrors: 0 });
    });

    it("may lose a lock without a duplicate to listen with: no rejection is left unhandled", async () => {
      const client = withoutDuplicate();
      let refusals = 0;
      for (const name of ["eval", "evalsha"] as const) {
        const real = client[name].bind(client) as (...args: unknown[]) => Promise<unknown>;
        const counting = async (...args: unknown[]) => {
          const reply = await real(...args);
          if (String(reply) === "lost") refusals++;
          return reply;
        };
        Object.assign(client, { [name]: counting });
      }
      const cache = new CacheFence(client, { namespace, lockTimeout: 0.3 });
      const unhandled: unknown[] = [];
      const listener = (reason: unknown) => void unhandled.push(reason);
      process.on("unhandledRejection", listener);
      try {
        const gate = deferred();
        const call = cache.getOrSet("k", 60, () => gate.promise.then(() => "value"));
        await eventually(() => expect(cache.stats().rebuilds).toBe(1));
        await open().invalidate("k");
        await until("a renewal has been refused", () => refusals === 1);
        await settle();
        expect(unhandled).toEqual([]);
        expect(await cache.getOrSet("k", 60, () => "next")).toBe("next");
        expect(await call).toBe("next"); // Found by polling.
        gate.resolve();
        await cache.idle();
      } finally {
        process.off("unhandledRejection", listener);
      }
      expect(unhandled).toEqual([]);
    });

    it.each(["prefix:", "{tag}"])("may have a keyPrefix: %o", async (keyPrefix) => {
      const own = prefix + keyPrefix;
      const clients = [1, 2].map(() => new major.Redis(url, { keyPrefix: own }));
      try {
        const [holder, waiter] = clients.map((client) => new CacheFence(client, { namespace: "app:" })) as [
          CacheFence,
          CacheFence,
        ];
        const gate = deferred();
        const first = holder.getOrSet("k", 60, async () => {
          await gate.promise;
          return "value";
        });
        await eventually(() => expect(holder.stats().rebuilds).toBe(1));
        expect(await raw.get(`${own}app:k:lock`)).toMatch(
          /^cachefence:[LN][0-9a-f]{16}-[0-9a-f]{12}(:L[0-9a-f]{16}-[0-9a-f]{12})?$/,
        );
        const second = waiter.getOrSet("k", 60, () => "rebuilt twice");
        const waitedFor = `${own}app:k`;
        await expect.poll(() => waitersOf(raw, waitedFor)).toBe(1);
        gate.resolve();
        expect(await Promise.all([first, second])).toEqual(["value", "value"]);
        expect(await raw.hget(`${own}app:k`, "v")).toBe('"value"');
        await waiter.invalidate("k");
        expect(await raw.exists(`${own}app:k`, `${own}app:k:lock`)).toBe(0);
        await Promise.all([holder.close(), waiter.close()]);
      } finally {
        for (const client of clients) client.disconnect();
      }
    });
  });

  describe("options with another value than their default", () => {
    it("lockTimeout is the lease of the lock", async () => {
      const gate = deferred();
      const cache = open({ lockTimeout: 300 });
      const call = cache.getOrSet("k", 60, () => gate.promise);
      await eventually(() => expect(cache.stats().rebuilds).toBe(1));
      expect(await raw.pttl(`${namespace}k:lock`)).toBeGreaterThan(200_000);
      gate.resolve();
      await call;
    });

    it("waitForLock 0 takes over at once", async () => {
      await raw.set(`${namespace}k:lock`, "held", "PX", 60_000);
      const cache = open({ waitForLock: 0 });
      expect(await cache.getOrSet("k", 60, () => "mine")).toBe("mine");
      expect(cache.stats().takeovers).toBe(1);
      expect(await lockOf("k")).toBeNull();
    });

    it("namespace is put before each key", async () => {
      await open({ namespace: `${namespace}other:` }).set("k", 60, 1);
      expect(await raw.exists(`${namespace}other:k`)).toBe(1);
    });
  });
}
