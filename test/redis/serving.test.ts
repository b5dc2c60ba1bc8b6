import { waitersOf } from "../support/audience.js";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { setTimeout as sleep } from "node:timers/promises";
import {
  CacheFence,
  type CacheFenceEvents,
  type CacheFenceOptions,
  type GetOrSetOptions,
  RecomputeError,
  RecomputeTimeoutError,
} from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { claim } from "../../src/protocol/scripts.js";
import { type Runtime, systemRuntime } from "../../src/runtime.js";
import { deferred } from "../support/deferred.js";
import { describeRedis, removeKeys, uniquePrefix } from "../support/describe-redis.js";
import { type IoredisMajor, majors } from "../support/ioredis.js";
import { ended, until } from "../support/waiting.js";

const isClaim = (script: string) => script === claim.text || script === claim.sha1;

// No test lasts as long as this lease: a lock that is gone was freed by somebody.
const lockTimeout = 600;

for (const major of majors) {
  describeRedis(`Serving, ioredis ${major.name}`, (url) => suite(major, url));
}

function suite(major: IoredisMajor, url: string): void {
  const prefix = uniquePrefix();
  let raw: Redis;
  let namespace: string;
  let tests = 0;
  const caches: CacheFence[] = [];
  const clients: Redis[] = [];
  const unhandled: unknown[] = [];
  const noteUnhandled = (reason: unknown) => void unhandled.push(reason);

  beforeAll(() => {
    raw = new major.Redis(url);
    process.on("unhandledRejection", noteUnhandled);
  });
  beforeEach(() => {
    namespace = `${prefix}${++tests}:`;
  });
  afterEach(async () => {
    for (const cache of caches.splice(0)) await cache.close();
    for (const client of clients.splice(0)) client.disconnect();
    expect(unhandled.splice(0)).toEqual([]);
  });
  afterAll(async () => {
    process.off("unhandledRejection", noteUnhandled);
    await removeKeys(raw, prefix);
    raw.disconnect();
  });

  function openClient(): Redis {
    const client = new major.Redis(url);
    clients.push(client);
    return client;
  }

  /** A cache with a client of its own, as another process has it. A draw of 1: nothing is refreshed before it expires. */
  function open(
    options: CacheFenceOptions = {},
    { client = openClient(), ...runtime }: Partial<Runtime> & { client?: Redis } = {},
  ): CacheFence {
    const patient = { namespace, lockTimeout, waitForLock: 60, redisTimeout: 20, retryAfter: 0, ...options };
    const cache = new CacheFence(client, patient, { ...systemRuntime, random: () => 1, ...runtime });
    caches.push(cache);
    return cache;
  }

  /** A draw that refreshes every entry whose delta is not 0. */
  const eager: Partial<Runtime> = { random: () => Number.MIN_VALUE };

  /** Writes an entry as another process would have; negative seconds: it has been stale for so long. */
  async function writeEntry(value: string, secondsLeft: number): Promise<void> {
    const [seconds, microseconds] = (await raw.time()).map(Number) as [number, number];
    const expiry = String(seconds + microseconds / 1e6 + secondsLeft);
    await raw.hset(`${namespace}key`, { v: JSON.stringify(value), delta: "1", expiry });
    await raw.pexpire(`${namespace}key`, 600_000);
  }

  const stored = async () => {
    const value = await raw.hget(`${namespace}key`, "v");
    return value === null ? undefined : (JSON.parse(value) as unknown);
  };
  const lockOf = () => raw.get(`${namespace}key:lock`);
  const isFree = () => until("the lock is free", async () => (await lockOf()) === null);
  const isListening = () => until("a waiter listens", async () => (await waitersOf(raw, `${namespace}key`)) === 1);

  /** A source whose answer is the test's to give. */
  function gatedSource() {
    const started = deferred();
    const answer = deferred<string>();
    let calls = 0;
    const recompute = () => {
      calls++;
      started.resolve();
      return answer.promise;
    };
    return { recompute, started: started.promise, succeed: answer.resolve, fail: answer.reject, calls: () => calls };
  }

  const failing = (message = "source down") => {
    const cause = new Error(message);
    return { cause, recompute: () => Promise.reject(cause) };
  };
  const unused = (): Promise<string> => Promise.reject(new Error("must not be called"));

  /** Records the events of this test's keys until it ends. */
  async function recording<N extends keyof CacheFenceEvents>(
    name: N,
    run: (events: CacheFenceEvents[N][]) => Promise<void>,
  ): Promise<void> {
    const events: CacheFenceEvents[N][] = [];
    const listener = (message: unknown) => void events.push(message as CacheFenceEvents[N]);
    subscribe(name, listener);
    try {
      await run(events);
    } finally {
      unsubscribe(name, listener);
    }
  }

  const background = { earlyRefresh: "background", staleFor: 60 } as const;
  const dues = [
    ["stale", -5, {}],
    ["valid, and due", 60, eager],
  ] as const;

  describe.each(dues)("a background rebuild of a value that is %s", (_, secondsLeft, runtime) => {
    beforeEach(() => writeEntry("old", secondsLeft));

    /** Starts it; its caller has been served. */
    async function begin(options: CacheFenceOptions = {}, client = openClient()) {
      const cache = open({ ...background, ...options }, { ...runtime, client });
      const source = gatedSource();
      expect(await cache.getOrSet("key", 60, source.recompute)).toBe("old");
      await source.started;
      return { cache, source };
    }

    it("holds the lock, and serves the value to everybody until it ends, its own process too", async () => {
      const client = openClient();
      const scripted = [vi.spyOn(client, "eval"), vi.spyOn(client, "evalsha")];
      const { cache, source } = await begin({}, client);
      expect(await lockOf()).toMatch(/^cachefence:/);
      const other = open(background, runtime);
      for (const one of [cache, other]) {
        const values = Array.from({ length: 20 }, () => one.getOrSet("key", 60, unused));
        expect(await Promise.all(values)).toEqual(Array(20).fill("old"));
        expect(one.stats()).toMatchObject({ waits: 0, coalesced: 0, misses: 0 });
      }
      // Its own process knows of it, and need not ask.
      const claims = scripted.flatMap((spy) => spy.mock.calls).filter(([script]) => isClaim(String(script)));
      expect(claims).toHaveLength(1);
      source.succeed("new");
      await cache.idle();
      expect(await stored()).toBe("new");
      expect(await lockOf()).toBeNull();
      expect(source.calls()).toBe(1);
    });

    it.each([
      ["invalidate", undefined],
      ["set", "set"],
    ])("is fenced: its store is refused after %s by another process", async (fence, left) => {
      const { cache, source } = await begin();
      const other = open();
      await (left === undefined ? other.invalidate("key") : other.set("key", 60, left));
      source.succeed("from before");
      await cache.idle();
      expect(await stored()).toBe(left);
      expect(cache.stats().refusedStores).toBe(1);
      // And the next caller, of the same process, gets what the fence stands for.
      expect(await cache.getOrSet("key", 60, () => "after")).toBe(fence === "set" ? "set" : "after");
    });

    it("is renewed like any other", async () => {
      const { source } = await begin({ lockTimeout: 6 });
      const token = await lockOf();
      for (let renewal = 0; renewal < 2; renewal++) {
        await raw.pexpire(`${namespace}key:lock`, 600_000);
        await until("it is renewed", async () => (await raw.pttl(`${namespace}key:lock`)) <= 6_000);
      }
      // It may have grown since: its mailbox was late.
      expect((await lockOf())!.startsWith(token!)).toBe(true);
      source.succeed("new");
      await isFree();
    });

    it("tells the waiters of other processes when it has stored", async () => {
      const { source } = await begin();
      const heard: string[] = [];
      const subscriber = openClient();
      const member = "f".repeat(16);
      subscriber.on("message", (_, news: string) => heard.push(news.split(" ")[0]!));
      await subscriber.subscribe(`cachefence:${member}`);
      await raw.zadd(`${namespace}key:audience`, Date.now() + 60_000, `w${member}`);
      source.succeed("new");
      await until("it is heard", () => heard.length > 0);
      expect(heard).toEqual(["stored"]);
    });

    it.each([
      ["rejects", () => Promise.reject(new Error("source down")), RecomputeError],
      [
        "throws",
        () => {
          throw new Error("source down");
        },
        RecomputeError,
      ],
      ["takes too long", () => new Promise<never>(() => undefined), RecomputeTimeoutError],
    ])("that fails is an event and no rejection, and the next caller tries again: it %s", async (_, fail, kind) => {
      const cache = open({ ...background, recomputeTimeout: 0.1 }, runtime);
      await recording("cachefence:rebuild-end", async (ends) => {
        expect(await cache.getOrSet("key", 60, fail)).toBe("old");
        await cache.idle();
        expect(ends).toHaveLength(1);
        expect(ends[0]).toMatchObject({ key: "key", stored: false });
        expect(ends[0]!.error).toBeInstanceOf(kind);
      });
      expect(await lockOf()).toBeNull();
      expect(await stored()).toBe("old");
      expect(await cache.getOrSet("key", 60, () => "new")).toBe("old");
      await cache.idle();
      expect(await stored()).toBe("new");
    });

    it("does not begin while Redis refuses the lock, whatever onRedisError says: the value is good", async () => {
      for (const onRedisError of ["recompute", "throw"] as const) {
        const client = openClient();
        const refuse = () => Promise.reject(new Error("OOM command not allowed"));
        Object.assign(client, { eval: refuse, evalsha: refuse });
        const cache = open({ ...background, onRedisError }, { ...runtime, client });
        expect(await cache.getOrSet("key", 60, unused)).toBe("old");
        await cache.idle();
        expect(cache.stats()).toMatchObject({ rebuilds: 0, redisErrors: 1 });
      }
    });

    it("takes the lifetime from its own value", async () => {
      const cache = open(background, runtime);
      const ttl = (value: string) => (value === "new" ? 5_000 : 1);
      expect(await cache.getOrSet("key", ttl, () => "new")).toBe("old");
      await cache.idle();
      expect(await raw.ttl(`${namespace}key`)).toBeGreaterThan(4_000);
    });

    it("leaves the value where its own is not to be cached, and frees the lock", async () => {
      const cache = open(background, runtime);
      await recording("cachefence:rebuild-end", async (ends) => {
        expect(
          await cache.getOrSet(
            "key",
            () => 0,
            () => "uncached",
          ),
        ).toBe("old");
        await cache.idle();
        expect(ends).toEqual([{ namespace, key: "key", seconds: expect.any(Number) as number, stored: false }]);
      });
      expect(await stored()).toBe("old");
      expect(await lockOf()).toBeNull();
    });

    it("goes on when its caller's signal aborts afterwards", async () => {
      const controller = new AbortController();
      const cache = open(background, runtime);
      const source = gatedSource();
      const { signal } = controller;
      expect(await cache.getOrSet("key", 60, source.recompute, { signal })).toBe("old");
      await source.started;
      controller.abort();
      source.succeed("new");
      await cache.idle();
      expect(await stored()).toBe("new");
    });
  });

  describe("a caller that may get no stale value", () => {
    beforeEach(() => writeEntry("stale", -5));

    it("joins a background rebuild of its own process, and is woken by one of another", async () => {
      const cache = open(background);
      const source = gatedSource();
      expect(await cache.getOrSet("key", 60, source.recompute)).toBe("stale");
      await source.started;
      const joined = cache.getOrSet("key", 60, unused, { staleFor: 0 });
      const other = open();
      const waiting = other.getOrSet("key", 60, unused);
      await isListening();
      await until("it has joined", () => cache.stats().coalesced === 1);
      source.succeed("new");
      expect(await Promise.all([joined, waiting])).toEqual(["new", "new"]);
      expect(other.stats()).toMatchObject({ rebuilds: 0, waits: 1, takeovers: 0 });
    });

    it("waits for the winner when the refresh that it joined has lost its claim", async () => {
      const winner = open();
      const source = gatedSource();
      const won = winner.getOrSet("key", 60, source.recompute);
      await source.started;
      const cache = open(background);
      const calls = [cache.getOrSet("key", 60, unused), cache.getOrSet("key", 60, unused, { staleFor: 0 })];
      expect(await calls[0]).toBe("stale");
      await isListening();
      source.succeed("new");
      expect(await Promise.all([won, calls[1]])).toEqual(["new", "new"]);
      expect(cache.stats().rebuilds).toBe(0);
    });

    it("takes a background rebuild over that hangs; what that one has later is refused", async () => {
      const cache = open(background);
      const source = gatedSource();
      expect(await cache.getOrSet("key", 60, source.recompute)).toBe("stale");
      await source.started;
      const taker = open({ waitForLock: 0.2 });
      expect(await taker.getOrSet("key", 60, () => "taker's")).toBe("taker's");
      expect(taker.stats().takeovers).toBe(1);
      source.succeed("late");
      await cache.idle();
      expect(await stored()).toBe("taker's");
      expect(cache.stats().refusedStores).toBe(1);
    });

    it("gets the failure of the rebuild that it joined, whose winner is served the stale value", async () => {
      const cache = open({ staleFor: 60 });
      const source = gatedSource();
      const winner = cache.getOrSet("key", 60, source.recompute);
      await source.started;
      const joined = ended(cache.getOrSet("key", 60, unused, { staleFor: 0 }));
      await until("it has joined", () => cache.stats().coalesced === 1);
      const { cause } = failing();
      source.fail(cause);
      expect(await winner).toBe("stale");
      expect((await joined).error).toBeInstanceOf(RecomputeError);
      expect((await joined).error!.cause).toBe(cause);
    });
  });

  describe("a value within staleFor", () => {
    beforeEach(() => writeEntry("stale", -5));

    it("is waited for by nobody but the inline winner, in all of the fleet", async () => {
      const source = gatedSource();
      const fleet = [open({ staleFor: 60 }), open({ staleFor: 60 })];
      let served = 0;
      const calls = fleet.flatMap((cache) =>
        Array.from({ length: 50 }, async () => {
          const value = await cache.getOrSet("key", 60, source.recompute);
          if (value === "stale") served++;
          return value;
        }),
      );
      await until("all but one are served", () => served === 99);
      expect(source.calls()).toBe(1);
      source.succeed("new");
      expect((await Promise.all(calls)).filter((value) => value === "new")).toHaveLength(1);
      const [waits, misses] = ["waits", "misses"].map((name) =>
        fleet.map((cache) => cache.stats()[name as "waits" | "misses"]),
      );
      expect([waits, misses]).toEqual([
        [0, 0],
        [0, 0],
      ]);
    });

    it("is served at once while a holder is hung or dead, for as long as it lasts", async () => {
      await raw.set(`${namespace}key:lock`, "0123456789abcdef0123456789abcdef", "PX", 600_000);
      for (const earlyRefresh of ["inline", "background"] as const) {
        const cache = open({ staleFor: 60, earlyRefresh });
        const values = Array.from({ length: 10 }, () => cache.getOrSet("key", 60, unused));
        expect(await Promise.all(values)).toEqual(Array(10).fill("stale"));
        expect(cache.stats()).toMatchObject({ waits: 0, staleServes: 10 });
      }
    });

    it("is refreshed by the call that finds a dead holder silent again: none waits for the second look", async () => {
      await raw.set(`${namespace}key:lock`, `cachefence:L${"d".repeat(16)}-${"0".repeat(12)}`, "PX", 600_000);
      const cache = open({ staleFor: 60 });
      await until("it is replaced", async () => (await cache.getOrSet("key", 60, () => "new")) === "new");
      expect(cache.stats()).toMatchObject({ takeovers: 1, earlyRefreshes: 1, waits: 0 });
    });

    it("is not refreshed over a holder that was silent long ago: two looks count that are near each other", async () => {
      await raw.set(`${namespace}key:lock`, `cachefence:L${"d".repeat(16)}-${"0".repeat(12)}`, "PX", 600_000);
      let aheadMs = 0;
      const cache = open({ staleFor: 60 }, { monotonicMs: () => performance.now() + aheadMs });
      expect(await cache.getOrSet("key", 60, unused)).toBe("stale");
      aheadMs = 6_000;
      expect(await cache.getOrSet("key", 60, unused)).toBe("stale");
      expect(cache.stats().rebuilds).toBe(0);
      await until("it is replaced", async () => (await cache.getOrSet("key", 60, () => "new")) === "new");
    });

    it("is served past the failure of the inline winner's recompute, of its ttl and of its serialization", async () => {
      const cache = open({ staleFor: 60 });
      const throwing = () => {
        throw new Error("no ttl");
      };
      expect(await cache.getOrSet("key", 60, failing().recompute)).toBe("stale");
      expect(await cache.getOrSet("key", throwing, () => "new")).toBe("stale");
      expect(await cache.getOrSet<unknown>("key", 60, () => 1n)).toBe("stale");
      expect(cache.stats()).toMatchObject({ rebuilds: 3, staleServes: 3 });
    });

    it("of 0 s, which a function may say too, leaves the winner its error", async () => {
      await writeEntry("valid", 60);
      for (const staleFor of [0, () => 0]) {
        const cache = open({ staleFor }, eager);
        await expect(cache.getOrSet("key", 60, failing().recompute)).rejects.toThrow(RecomputeError);
        await raw.del(`${namespace}key:lock`);
      }
    });

    it("is refused where a function says what is no time: of a miss as of a hit", async () => {
      const says = (seconds: unknown) => ({ staleFor: () => seconds as number });
      for (const seconds of [NaN, -1]) {
        await expect(open().getOrSet("missing", 60, () => 1, says(seconds))).rejects.toThrow(RangeError);
        await expect(open().getOrSet("key", 60, unused, says(seconds))).rejects.toThrow(RangeError);
      }
      for (const key of ["missing", "key"])
        await expect(open().getOrSet(key, 60, () => "1", says(Promise.resolve(7)))).rejects.toThrow(TypeError);
    });

    it("is too old for its winner when it has outlived staleFor during the recompute", async () => {
      let aheadMs = 0;
      const clock = { monotonicMs: () => performance.now() + aheadMs };
      const cache = open({ staleFor: 60 }, clock);
      const { cause } = failing();
      const call = cache.getOrSet("key", 60, () => {
        aheadMs = 100_000;
        throw cause;
      });
      await expect(call).rejects.toMatchObject({ name: "RecomputeError", cause });
      expect(await open({ staleFor: 60 }).getOrSet("key", 60, failing().recompute)).toBe("stale");
    });

    it.each(["inline", "background"] as const)(
      "is never served past an invalidate of another process, with an %s rebuild under way and failing",
      async (earlyRefresh) => {
        const cache = open({ staleFor: 60, earlyRefresh });
        const source = gatedSource();
        const first = cache.getOrSet("key", 60, source.recompute);
        await source.started;
        await open().invalidate("key");
        const later = ended(cache.getOrSet("key", 60, unused));
        await until("it has joined", () => cache.stats().coalesced === 1);
        source.fail(new Error("source down"));
        expect(await first).toBe("stale"); // It had called before.
        expect((await later).error).toBeInstanceOf(RecomputeError);
        const again = ended(cache.getOrSet("key", 60, failing().recompute));
        expect((await again).error).toBeInstanceOf(RecomputeError);
        expect(await cache.getOrSet("key", 60, () => "new")).toBe("new");
      },
    );

    it("is never served past a set of another process either", async () => {
      const cache = open(background);
      const source = gatedSource();
      expect(await cache.getOrSet("key", 60, source.recompute)).toBe("stale");
      await source.started;
      await open().set("key", 60, "set");
      expect(await cache.getOrSet("key", 60, unused)).toBe("set");
      source.succeed("from before");
      await cache.idle();
      expect(await cache.getOrSet("key", 60, unused)).toBe("set");
    });
  });

  describe("recomputeTimeout", () => {
    it("frees the lock for a waiter of another process, which tries at once and takes nothing over", async () => {
      const cache = open({ recomputeTimeout: 0.3 });
      const other = open();
      const began = deferred();
      const hung = ended(
        cache.getOrSet("key", 60, () => {
          began.resolve();
          return new Promise<never>(() => undefined);
        }),
      );
      await began.promise;
      expect(await other.getOrSet("key", 60, () => "second")).toBe("second");
      expect((await hung).error).toBeInstanceOf(RecomputeTimeoutError);
      expect(other.stats()).toMatchObject({ takeovers: 0, rebuilds: 1 });
    });

    it("rejects all who joined with the one error that is the reason of the signal", async () => {
      const cache = open({ recomputeTimeout: 0.2 });
      let signal: AbortSignal | undefined;
      const calls = Array.from({ length: 10 }, () =>
        ended(
          cache.getOrSet("key", 60, (context) => {
            signal = context.signal;
            return new Promise<never>(() => undefined);
          }),
        ),
      );
      const errors = (await Promise.all(calls)).map(({ error }) => error);
      expect(new Set(errors).size).toBe(1);
      expect(errors[0]).toBeInstanceOf(RecomputeTimeoutError);
      expect(signal?.reason).toBe(errors[0]);
    });

    it("of a call goes before that of the instance", async () => {
      const cache = open({ recomputeTimeout: 0.1 });
      const source = gatedSource();
      const patient = cache.getOrSet("key", 60, source.recompute, { recomputeTimeout: 600 });
      await source.started;
      const hung = ended(cache.getOrSet("other key", 60, () => new Promise<never>(() => undefined)));
      expect((await hung).error).toBeInstanceOf(RecomputeTimeoutError);
      source.succeed("in its time");
      expect(await patient).toBe("in its time");
    });
  });

  describe("a caller that aborts", () => {
    const reason = new Error("client went away");

    it("leaves the rebuild to those that joined it, and stores it for the others", async () => {
      const cache = open();
      const controller = new AbortController();
      const source = gatedSource();
      const signals: AbortSignal[] = [];
      const recompute = ({ signal }: { signal: AbortSignal }) => {
        signals.push(signal);
        return source.recompute();
      };
      const starter = ended(cache.getOrSet("key", 60, recompute, { signal: controller.signal }));
      await source.started;
      const joined = cache.getOrSet("key", 60, unused);
      const other = open();
      const waiting = other.getOrSet("key", 60, unused);
      await isListening();
      await until("it has joined", () => cache.stats().coalesced === 1);
      controller.abort(reason);
      expect((await starter).error).toBe(reason);
      expect(signals.map((signal) => signal.aborted)).toEqual([false]);
      source.succeed("value");
      expect(await Promise.all([joined, waiting])).toEqual(["value", "value"]);
      expect(await stored()).toBe("value");
    });

    it("leaves the wait for another process to those that joined it", async () => {
      const holder = open();
      const source = gatedSource();
      const held = holder.getOrSet("key", 60, source.recompute);
      await source.started;
      const cache = open();
      const controller = new AbortController();
      const starter = ended(cache.getOrSet("key", 60, unused, { signal: controller.signal }));
      const joined = cache.getOrSet("key", 60, unused);
      await isListening();
      controller.abort(reason);
      expect((await starter).error).toBe(reason);
      source.succeed("value");
      expect(await Promise.all([held, joined])).toEqual(["value", "value"]);
      expect(cache.stats().waits).toBe(1);
    });

    it("is out of it also when it has joined, or when it is an inline winner", async () => {
      await writeEntry("stale", -5);
      const cache = open({ staleFor: 60 });
      const source = gatedSource();
      const controllers = [new AbortController(), new AbortController()] as const;
      const winner = ended(cache.getOrSet("key", 60, source.recompute, { signal: controllers[0].signal }));
      await source.started;
      const joined = ended(cache.getOrSet("key", 60, unused, { staleFor: 0, signal: controllers[1].signal }));
      await until("it has joined", () => cache.stats().coalesced === 1);
      for (const controller of controllers) controller.abort(reason);
      expect([(await winner).error, (await joined).error]).toEqual([reason, reason]);
      source.succeed("new");
      await cache.idle();
      expect(await stored()).toBe("new");
    });

    it("leaves no rejection behind when the rebuild that nobody awaits any more fails", async () => {
      const cache = open();
      const controller = new AbortController();
      const source = gatedSource();
      const starter = ended(cache.getOrSet("key", 60, source.recompute, { signal: controller.signal }));
      await source.started;
      controller.abort(reason);
      expect((await starter).error).toBe(reason);
      source.fail(new Error("source down"));
      await cache.idle();
      expect(await lockOf()).toBeNull();
    });
  });

  describe("a result that is not to be cached", () => {
    it("serves all that joined; a waiter of another process, for whom nothing is stored, makes its own", async () => {
      const cache = open();
      const source = gatedSource();
      const calls = Array.from({ length: 10 }, () => cache.getOrSet("key", () => 0, source.recompute));
      await source.started;
      await until("they have joined", () => cache.stats().coalesced === 9);
      const other = open();
      const waiting = other.getOrSet(
        "key",
        () => 0,
        () => "other's",
      );
      await isListening();
      source.succeed("fleeting");
      expect(await Promise.all(calls)).toEqual(Array(10).fill("fleeting"));
      expect(await waiting).toBe("other's");
      expect(source.calls()).toBe(1);
      expect(other.stats()).toMatchObject({ takeovers: 0, rebuilds: 1 });
      expect(await raw.exists(`${namespace}key`, `${namespace}key:lock`)).toBe(0);
    });

    it("does not serve those that joined after an invalidate: they ask again", async () => {
      const cache = open();
      const source = gatedSource();
      const first = cache.getOrSet("key", () => 0, source.recompute);
      await source.started;
      await open().invalidate("key");
      const second = cache.getOrSet(
        "key",
        () => 0,
        () => "after",
      );
      await until("it has joined", () => cache.stats().coalesced === 1);
      source.succeed("before");
      expect(await Promise.all([first, second])).toEqual(["before", "after"]);
    });

    it("is decided by the value that was computed, once, whoever joined with another ttl", async () => {
      const cache = open();
      const source = gatedSource();
      const ttl = vi.fn((value: string) => (value === "missing" ? 0 : 60));
      const calls = [cache.getOrSet("key", ttl, source.recompute), cache.getOrSet("key", 60, unused)];
      await source.started;
      await until("it has joined", () => cache.stats().coalesced === 1);
      source.succeed("missing");
      expect(await Promise.all(calls)).toEqual(["missing", "missing"]);
      expect(ttl.mock.calls).toEqual([["missing"]]);
      expect(await stored()).toBeUndefined();
    });
  });

  // What a caller gets, by default and with another value. The type holds this table to every option there is.
  type Option = keyof (CacheFenceOptions & GetOrSetOptions);
  interface Case {
    readonly other: CacheFenceOptions & GetOrSetOptions;
    readonly byDefault: unknown;
    readonly otherwise: unknown;
    readonly run: (options: CacheFenceOptions & GetOrSetOptions) => Promise<unknown>;
  }
  const nameOrValue = async (call: Promise<unknown>) => {
    const { value, error } = await ended(call);
    return error?.name ?? value;
  };
  /** A cache with no options but these. */
  const plain = (options: CacheFenceOptions, client = openClient(), runtime: Partial<Runtime> = {}) => {
    const cache = new CacheFence(client, { namespace, ...options }, { ...systemRuntime, ...runtime });
    caches.push(cache);
    return cache;
  };
  /** Where the value comes from once the key has been read often enough for a copy. */
  const lastSourceOf = async (cache: CacheFence) => {
    let source = "";
    await until("a copy is kept, or none will be", async () => {
      for (let read = 0; read < 5; read++) ({ source } = await cache.getOrSetEntry("key", 60, unused));
      return source === "memory" || cache.stats().hits > 20;
    });
    return source;
  };
  const reverse = (text: string) => Buffer.from(text, "latin1").reverse().toString("latin1");
  const reversing = {
    serializer: (value: unknown) => reverse(String(value)),
    deserializer: (bytes: Buffer) => reverse(bytes.toString()),
  };

  const options: Record<Option, Case> = {
    beta: {
      other: { beta: 0 },
      byDefault: "new",
      otherwise: "old",
      run: async (options) => {
        await writeEntry("old", 60);
        return plain(options, openClient(), eager).getOrSet("key", 60, () => "new");
      },
    },
    staleFor: {
      other: { staleFor: 60 },
      byDefault: "RecomputeError",
      otherwise: "old",
      run: async (options) => {
        await writeEntry("old", -5);
        return nameOrValue(plain(options).getOrSet("key", 60, failing().recompute));
      },
    },
    earlyRefresh: {
      other: { earlyRefresh: "background" },
      byDefault: "new",
      otherwise: "old",
      run: async (options) => {
        await writeEntry("old", 60);
        const cache = plain(options, openClient(), eager);
        const value = await cache.getOrSet("key", 60, () => "new");
        await cache.idle();
        return value;
      },
    },
    recomputeTimeout: {
      other: { recomputeTimeout: 0.05 },
      byDefault: "slow",
      otherwise: "RecomputeTimeoutError",
      run: (options) => nameOrValue(plain(options).getOrSet("key", 60, () => sleep(500, "slow"))),
    },
    signal: {
      other: { signal: AbortSignal.abort() },
      byDefault: "value",
      otherwise: "AbortError",
      run: ({ signal }) => nameOrValue(plain({}).getOrSet("key", 60, () => "value", { signal })),
    },
    lockTimeout: {
      other: { lockTimeout: 300 },
      byDefault: "at most 10 s",
      otherwise: "longer",
      run: (options) =>
        plain(options).getOrSet("key", 60, async () =>
          (await raw.pttl(`${namespace}key:lock`)) > 10_000 ? "longer" : "at most 10 s",
        ),
    },
    waitForLock: {
      other: { waitForLock: 0 },
      byDefault: "waited",
      otherwise: "taken over",
      run: async (options) => {
        await raw.set(`${namespace}key:lock`, `cachefence:N${"f".repeat(16)}-${"f".repeat(12)}`, "PX", 600_000);
        const cache = plain(options);
        const call = cache.getOrSet("key", 60, () => "value");
        await until("it waits or is done", async () => {
          const listening = await waitersOf(raw, `${namespace}key`);
          // Who never waits listens too, but not for long.
          return cache.stats().rebuilds === 1 || (listening === 1 && options.waitForLock !== 0);
        });
        await raw.del(`${namespace}key:lock`);
        await call;
        return cache.stats().takeovers === 1 ? "taken over" : "waited";
      },
    },
    namespace: {
      other: { namespace: `${prefix}other:` },
      byDefault: 0,
      otherwise: 1,
      run: async (options) => {
        await plain(options).set("key", 60, "value");
        return raw.exists(`${prefix}other:key`);
      },
    },
    serializer: {
      other: reversing,
      byDefault: '"value"',
      otherwise: "eulav",
      run: async (options) => {
        await plain(options).set("key", 60, "value");
        return raw.hget(`${namespace}key`, "v");
      },
    },
    deserializer: {
      other: reversing,
      byDefault: 12,
      otherwise: "21",
      run: async (options) => {
        await raw.hset(`${namespace}key`, { v: "12", delta: "0", expiry: "4000000000" });
        return plain(options).getOrSet<unknown>("key", 60, unused);
      },
    },
    redisTimeout: {
      other: { redisTimeout: 0.05 },
      byDefault: "cached",
      otherwise: "source",
      run: async (options) => {
        await writeEntry("cached", 60);
        const client = openClient();
        const read = client.hmgetBuffer.bind(client) as (...args: unknown[]) => Promise<unknown>;
        const readSlowly = async (...args: unknown[]) => {
          const reply = await read(...args);
          return sleep(options.redisTimeout === undefined ? 100 : 5_000, reply);
        };
        await client.ping();
        Object.assign(client, { hmgetBuffer: readSlowly });
        return plain({ beta: 0, ...options }, client).getOrSet("key", 60, () => "source");
      },
    },
    onRedisError: {
      other: { onRedisError: "throw" },
      byDefault: "source",
      otherwise: "ReplyError",
      run: (options) => {
        const client = openClient();
        const loading = Object.assign(new Error("LOADING Redis is loading the dataset in memory"), {
          name: "ReplyError",
        });
        Object.assign(client, { hmgetBuffer: () => Promise.reject(loading), set: () => Promise.reject(loading) });
        return nameOrValue(plain(options, client).getOrSet("key", 60, () => "source"));
      },
    },
    retryAfter: {
      other: { retryAfter: 0 },
      byDefault: 1,
      otherwise: 3,
      run: async (options) => {
        await writeEntry("old", -1);
        // However long the calls take, they are made at one moment.
        const nowMs = performance.now();
        const cache = plain({ staleFor: 600, ...options }, openClient(), { monotonicMs: () => nowMs });
        for (let call = 0; call < 3; call++) await cache.getOrSet("key", 60, failing().recompute);
        return cache.stats().rebuilds;
      },
    },
    tags: {
      other: { tags: ["group"] },
      byDefault: "old",
      otherwise: "new",
      run: async (options) => {
        const { tags } = options as GetOrSetOptions;
        const cache = plain({});
        await cache.getOrSet("key", 60, () => "old", { tags });
        await cache.invalidateTags("group");
        return cache.getOrSet("key", 60, () => "new", { tags });
      },
    },
    memory: {
      other: { memory: new Map() },
      byDefault: "redis",
      otherwise: "memory",
      run: async (options) => {
        await writeEntry("old", 60);
        const cache = plain({ beta: 0, memoryLease: 60, ...options });
        return lastSourceOf(cache);
      },
    },
    memoryLease: {
      other: { memoryLease: 0.05 },
      byDefault: "memory",
      otherwise: "redis",
      run: async (options) => {
        await writeEntry("old", 60);
        let [monotonicMs, wallMs] = [performance.now(), Date.now()];
        const clocks = { monotonicMs: () => monotonicMs, wallClockMs: () => wallMs };
        const cache = plain({ beta: 0, memory: new Map(), ...options }, openClient(), clocks);
        await lastSourceOf(cache);
        monotonicMs += 500;
        wallMs += 500;
        return (await cache.getOrSetEntry("key", 60, unused)).source;
      },
    },
    values: {
      other: { values: "frozen" },
      byDefault: false,
      otherwise: true,
      run: async (options) => {
        const cache = plain(options);
        return Object.isFrozen(await cache.getOrSet("key", 60, () => ({ deep: [1] })));
      },
    },
  };

  describe("an option with another value than its default", () => {
    it.each(Object.entries(options))(
      "changes what a caller gets: %s",
      async (_, { other, byDefault, otherwise, run }) => {
        expect(await run({})).toEqual(byDefault);
        namespace = `${prefix}${++tests}:`;
        expect(await run(other)).toEqual(otherwise);
      },
    );
  });
}
