import { once } from "node:events";
import { CacheFence, RecomputeError } from "cachefence";
import type { Redis } from "ioredis";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { systemRuntime } from "../../src/runtime.js";
import { waitersOf } from "../support/audience.js";
import { deferred } from "../support/deferred.js";
import { describeRedis, removeKeys, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { ManualRuntime } from "../support/manual-runtime.js";
import { until } from "../support/waiting.js";

for (const major of majors) {
  describeRedis(`the calls aboard a flight, ioredis ${major.name}`, (url) => {
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

    /** A client of its own: another process. */
    const connect = (): Redis => {
      const client = new major.Redis(url);
      clients.push(client);
      return client;
    };
    const open = (options: ConstructorParameters<typeof CacheFence>[1] = {}) =>
      new CacheFence(
        connect(),
        { namespace, redisTimeout: 20, waitForLock: 60, retryAfter: 0, ...options },
        { ...systemRuntime, random: () => 1 },
      );
    const lockOf = (key: string) => raw.get(`${namespace}${key}:lock`);
    const unused = (): Promise<string> => Promise.reject(new Error("must not be called"));
    async function writeStale(key: string, value: string): Promise<void> {
      const [seconds] = (await raw.time()).map(Number);
      await raw.hset(namespace + key, { v: JSON.stringify(value), delta: "1", expiry: String(seconds! - 1) });
      await raw.pexpire(namespace + key, 600_000);
    }

    it("that all leave before a rebuild has begun leave nobody for whom one would begin", async () => {
      const [holder, other] = [open(), open()];
      const gate = deferred<string>();
      const failed = holder.getOrSet("k", 60, () => gate.promise).catch((error: unknown) => error);
      await until("it holds the lock", async () => (await lockOf("k")) !== null);
      const controller = new AbortController();
      const recompute = vi.fn(unused);
      const waiting = other.getOrSet("k", 60, recompute, { signal: controller.signal });
      await until("it waits", async () => (await waitersOf(raw, `${namespace}k`)) === 1);
      controller.abort(new Error("left"));
      await expect(waiting).rejects.toThrow("left");
      gate.reject(new Error("source down"));
      expect(await failed).toBeInstanceOf(RecomputeError);
      await other.idle();
      await holder.idle();
      expect(recompute).not.toHaveBeenCalled();
      expect(await lockOf("k")).toBeNull();
    });

    it("that all leave while the mailbox is being opened leave no error behind", async () => {
      const cache = open();
      const errors: unknown[] = [];
      const controller = new AbortController();
      const leave = (): void => queueMicrotask(() => controller.abort(new Error("left")));
      const note = (event: unknown): number => errors.push((event as { error: unknown }).error);
      subscribe("cachefence:miss", leave);
      subscribe("cachefence:redis-error", note);
      try {
        await expect(cache.getOrSet("k", 60, unused, { signal: controller.signal })).rejects.toThrow("left");
        await cache.idle();
      } finally {
        unsubscribe("cachefence:miss", leave);
        unsubscribe("cachefence:redis-error", note);
      }
      expect(errors).toEqual([]);
    });

    it("leave no timer when a rebuild ends that was taken over, and then fenced", async () => {
      const timers = new Set<() => void>();
      const client = connect();
      const cache = new CacheFence(
        client,
        { namespace, lockTimeout: 3, waitForLock: 0.05, redisTimeout: 20 },
        {
          ...systemRuntime,
          startTimer: (delayMs, ref, run) => {
            if (!ref) return systemRuntime.startTimer(delayMs, ref, run);
            const cancel = systemRuntime.startTimer(delayMs, ref, () => {
              timers.delete(run);
              run();
            });
            timers.add(run);
            return () => {
              timers.delete(run);
              cancel();
            };
          },
        },
      );
      await raw.set(`${namespace}k:lock`, "0123456789abcdef", "PX", 600_000);
      const gate = deferred<string>();
      const recompute = vi.fn(() => gate.promise);
      const value = cache.getOrSet("k", 60, recompute);
      await until("it has taken over", () => recompute.mock.calls.length === 1);
      await open().invalidate("k");
      // Its next renewal finds no lock, and makes it a waiter. The answer to that comes before the one to the ping.
      await until("it has heard of the loss", async () => (await waitersOf(raw, `${namespace}k`)) === 1);
      await client.ping();
      gate.resolve("made");
      expect(await value).toBe("made");
      await cache.idle();
      expect(timers.size).toBe(0);
    });

    it("go on without the first: the next one's recompute is called", async () => {
      const [holder, other] = [open(), open()];
      const gate = deferred<string>();
      const failed = holder.getOrSet("k", 60, () => gate.promise).catch((error: unknown) => error);
      await until("it holds the lock", async () => (await lockOf("k")) !== null);
      const controller = new AbortController();
      const first = other.getOrSet("k", 60, unused, { signal: controller.signal });
      const second = other.getOrSet("k", 60, () => "second's");
      await until(
        "both wait",
        async () => (await waitersOf(raw, `${namespace}k`)) === 1 && other.stats().coalesced === 1,
      );
      controller.abort(new Error("left"));
      await expect(first).rejects.toThrow("left");
      gate.reject(new Error("source down"));
      await failed;
      expect(await second).toBe("second's");
    });

    /** A cache whose time the test moves, and a holder of "k" that never does anything. */
    async function openBehindForeignLock() {
      const runtime = new ManualRuntime();
      const client = connect();
      const cache = new CacheFence(client, { namespace, waitForLock: 1, lockTimeout: 600, redisTimeout: 60 }, runtime);
      await raw.set(`${namespace}k:lock`, `cachefence:N${"f".repeat(16)}-${"f".repeat(12)}`, "PX", 600_000);
      /** Time passes, but not while Redis is about to answer: however long that takes, it is one step. */
      const pass = async (ms: number) => {
        await client.ping();
        await runtime.advance(ms);
      };
      return { runtime, cache, pass };
    }

    it("wait 2 * waitForLock from when each asked, for all holders and their own process' rebuilds together", async () => {
      const { runtime, cache, pass } = await openBehindForeignLock();
      const begun: string[] = [];
      const hang = (name: string) => () => {
        begun.push(name);
        return new Promise<string>(() => undefined);
      };
      void cache.getOrSet("k", 60, hang("first"));
      const second = cache.getOrSet("k", 60, () => "second's");
      await until("it waits", async () => {
        await pass(1);
        return (await waitersOf(raw, `${namespace}k`)) === 1;
      });
      // The foreign holder's time is over: the flight takes over, and its recompute hangs too.
      await until("it has taken over", async () => {
        await pass(50);
        return begun.length === 1;
      });
      expect(runtime.monotonicNowMs).toBeLessThan(2_000);
      await until("the second acts for itself", async () => {
        await pass(50);
        return cache.stats().rebuilds === 2;
      });
      expect(await second).toBe("second's");
      // When it asked, and twice the patience; what is more is the steps of this test.
      expect(runtime.monotonicNowMs).toBeLessThan(2_600);
    });

    it("count what their own read has taken", async () => {
      const { runtime, cache, pass } = await openBehindForeignLock();
      let value: string | undefined;
      void cache.getOrSet("k", 60, () => "its own").then((made) => (value = made));
      // The read is on its way, and its process does not run.
      runtime.monotonicNowMs += 1_500;
      await until("it has taken over", async () => {
        await pass(20);
        return value !== undefined;
      });
      // A foreign holder first seen at 1,500 would have its patience until 2,500.
      expect(runtime.monotonicNowMs).toBeLessThan(2_400);
    });

    it("act each for itself in the end, though they asked in one turn and the rebuilds of others hang", async () => {
      const runtime = new ManualRuntime();
      const cache = new CacheFence(connect(), { namespace, waitForLock: 1, redisTimeout: 60 }, runtime);
      const hang = () => new Promise<string>(() => undefined);
      void cache.getOrSet("k", 60, hang);
      void cache.getOrSet("k", 60, hang);
      let third: string | undefined;
      void cache.getOrSet("k", 60, () => "third's").then((value) => (third = value));
      await until("the third has acted for itself", async () => {
        await runtime.advance(50);
        return third !== undefined;
      });
      expect(third).toBe("third's");
      expect(cache.stats()).toMatchObject({ rebuilds: 3, misses: 3, coalesced: 3 });
    });

    it("of one turn that come after its rebuild has begun make one of their own, as during an outage", async () => {
      const client = connect();
      const cache = new CacheFence(client, { namespace });
      await cache.peek("k");
      client.disconnect();
      await once(client, "end");
      const begun: string[] = [];
      const call = (name: string) => cache.getOrSet("k", 60, () => (begun.push(name), name));
      const early = [call("first"), call("second")];
      // No reply is waited for: all of this happens in one turn.
      for (let step = 0; step < 1_000 && begun.length === 0; step++) await Promise.resolve();
      expect(begun).toEqual(["first"]);
      const late = call("late");
      expect(await Promise.all([...early, late])).toEqual(["first", "first", "late"]);
      expect(cache.stats()).toMatchObject({ misses: 3, rebuilds: 2 });
    });

    it("of one turn are not served what was made before a fence that the last of them has seen resolve", async () => {
      const client = connect();
      const cache = new CacheFence(client, { namespace, redisTimeout: 20, waitForLock: 60 });
      // Its mailbox is live, and its scripts are known.
      await cache.getOrSet("other", 60, () => "value");
      await cache.invalidate("other");
      const gate = deferred<string>();
      const calls: Promise<string>[] = [];
      const call = (name: string): void => void calls.push(cache.getOrSet("k", 60, () => name));
      let fence: Promise<void> | undefined;
      const old = cache.getOrSet("k", 60, () => gate.promise);
      void client.ping().then(async () => {
        // What is sent from here leaves as one, and is answered as one: a ping, the claim, the fence.
        client.stream.cork();
        void client.ping().then(() => ["first", "second"].forEach(call));
        await new Promise<void>((resolve) => {
          process.nextTick(resolve);
        });
        fence = cache.invalidate("k").then(() => {
          call("last");
        });
        client.stream.uncork();
      });
      await until("all have asked", () => calls.length === 3);
      await fence;
      await until("they wait", () => cache.stats().misses === 5);
      gate.resolve("old");
      expect(await old).toBe("old");
      const [, , last] = await Promise.all(calls);
      expect(last).not.toBe("old");
    });

    it("with nothing to serve are not starved by the refreshes of others", async () => {
      await writeStale("k", "old");
      const cache = open();
      const holder = open();
      const gate = deferred<string>();
      const rebuilt = holder.getOrSet("k", 60, () => gate.promise, { staleFor: 0 });
      await until("it holds the lock", async () => (await lockOf("k")) !== null);
      // Others refresh all the time, and get nothing from it but what they have.
      let isRefreshing = true;
      const refreshing = (async () => {
        // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- set below
        while (isRefreshing) expect(await cache.getOrSet("k", 60, unused, { staleFor: 600 })).toMatch(/old|new/);
      })();
      const strict = cache.getOrSet("k", 60, unused, { staleFor: 0 });
      await until("it waits", async () => (await waitersOf(raw, `${namespace}k`)) === 1);
      gate.resolve("new");
      expect(await Promise.all([strict, rebuilt])).toEqual(["new", "new"]);
      isRefreshing = false;
      await refreshing;
    });

    it("make a fill of a refresh that nobody with nothing had boarded before: it waits for the holder", async () => {
      await writeStale("k", "old");
      const [holder, cache] = [open(), open()];
      const gate = deferred<string>();
      const rebuilt = holder.getOrSet("k", 60, () => gate.promise);
      await until("it holds the lock", async () => (await lockOf("k")) !== null);
      const served = cache.getOrSet("k", 60, unused, { staleFor: 600 });
      const strict = cache.getOrSet("k", 60, unused);
      await until("it waits", async () => (await waitersOf(raw, `${namespace}k`)) === 1);
      gate.resolve("new");
      expect(await Promise.all([rebuilt, strict])).toEqual(["new", "new"]);
      expect(await served).toMatch(/old|new/);
    });

    it("rest after a refresh that failed, the whole fleet of them, but for who has nothing to serve", async () => {
      await writeStale("k", "old");
      const [one, other] = [open({ staleFor: 600, retryAfter: 600 }), open({ staleFor: 600, retryAfter: 600 })];
      const failing = vi.fn(() => Promise.reject(new Error("source down")));
      expect(await one.getOrSet("k", 60, failing)).toBe("old");
      for (let call = 0; call < 10; call++) {
        expect(await one.getOrSet("k", 60, failing)).toBe("old");
        expect(await other.getOrSet("k", 60, failing)).toBe("old");
      }
      expect(failing).toHaveBeenCalledTimes(1);
      expect(await lockOf("k")).toMatch(/:P$/);
      expect(await other.getOrSet("k", 60, () => "new", { staleFor: 0 })).toBe("new");
      expect(await one.getOrSet("k", 60, failing)).toBe("new");
    });
  });
}
