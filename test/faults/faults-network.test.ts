import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { setTimeout as sleep } from "node:timers/promises";
import { CacheFence, type CacheFenceOptions, RedisUnavailableError } from "cachefence";
import type { Redis, RedisOptions } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Runtime, systemRuntime } from "../../src/runtime.js";
import { deferred } from "../support/deferred.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { settle } from "../support/manual-runtime.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.js";
import { ended, until } from "../support/waiting.js";

const redisTimeout = 0.5;
// A call that has waited for a reply in vain took at least this long; one that was refused, a few milliseconds.
const waitedMs = redisTimeout * 1000 * 0.9;
const noWaitMs = redisTimeout * 1000 * 0.6;
// No test lasts as long as this lease: a lock that is gone was freed by somebody.
const lockTimeout = 60;

describeOwnRedis("a network that fails", () => {
  describe.each(majors)("ioredis $name", (major) => {
    let server: RedisServer;
    let observer: Redis;
    let proxy: TcpProxy;
    let namespace: string;
    const clients: Redis[] = [];
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
      proxy = await startTcpProxy(server.port);
      namespace = uniquePrefix();
    });
    afterEach(async () => {
      for (const cache of caches.splice(0)) await cache.close();
      for (const client of clients.splice(0)) client.disconnect();
      await proxy.stop();
    });

    function openClient(options: RedisOptions = {}): Redis {
      const client = new major.Redis(proxy.port, "127.0.0.1", { retryStrategy: () => 50, ...options });
      client.on("error", () => undefined);
      clients.push(client);
      return client;
    }

    function fenceOver(client: Redis, options: CacheFenceOptions = {}, runtime = systemRuntime): CacheFence {
      const cache = new CacheFence(client, { namespace, redisTimeout, lockTimeout, beta: 0, ...options }, runtime);
      caches.push(cache);
      return cache;
    }

    async function openFence(
      options: CacheFenceOptions = {},
      clientOptions: RedisOptions = {},
      runtime: Runtime = systemRuntime,
    ) {
      const client = openClient(clientOptions);
      const cache = fenceOver(client, options, runtime);
      await until("the client is ready", () => client.status === "ready");
      // The script is loaded and the connection has answered: what follows is the steady state.
      await cache.getOrSet("warm", 60, () => "warm");
      return { client, cache };
    }

    const isLocked = async (key: string) => (await observer.exists(`${namespace}${key}:lock`)) === 1;
    const isStored = async (key: string) => (await observer.exists(`${namespace}${key}`)) === 1;
    const isReady = (client: Redis) => until("the client is ready", () => client.status === "ready");

    describe("a mailbox that goes live only after the claim", () => {
      /** A rebuild that has begun without it. The end of its process ends the connections, as `down` does. */
      async function beginsWithout(fails = false) {
        const client = openClient();
        await until("the client is ready", () => client.status === "ready");
        const lost = proxy.cutBefore(/\r\nsubscribe\r\n/i);
        const cache = fenceOver(client);
        const finish = deferred();
        const value = cache.getOrSet("key", 60, async () => {
          await finish.promise;
          if (fails) throw new Error("down");
          return "first";
        });
        value.catch(() => undefined);
        await lost;
        const lock = () => observer.get(`${namespace}key:lock`);
        await until("the lock says that it is live", async () =>
          /^cachefence:N\w+-\w+:L\w+-\w+$/.test((await lock()) ?? ""),
        );
        return { value, finish, lock };
      }
      const openOther = (): CacheFence => {
        const client = new major.Redis(server.url);
        clients.push(client);
        return fenceOver(client, { waitForLock: 600, redisTimeout: 20 });
      };

      it("is known to the others: the death of its process is noticed long before the lease or patience ends", async () => {
        const { value, finish, lock } = await beginsWithout();
        const other = openOther();
        const answer = other.getOrSet("key", 60, () => "second");
        await until("the other waits", async () => (await observer.zcard(`${namespace}key:audience`)) === 1);
        expect(await lock()).not.toBeNull();
        proxy.down();
        expect(await answer).toBe("second");
        expect(other.stats().takeovers).toBe(1);
        // For the holder, which lives on here, Redis is away.
        finish.resolve();
        expect(await value).toBe("first");
      });

      it("does not keep its value from being stored, nor from those who wait for it", async () => {
        const { value, finish, lock } = await beginsWithout();
        const other = openOther();
        const answer = other.getOrSet("key", 60, () => "second");
        await until("the other waits", async () => (await observer.zcard(`${namespace}key:audience`)) === 1);
        finish.resolve();
        expect(await Promise.all([value, answer])).toEqual(["first", "first"]);
        expect(await isStored("key")).toBe(true);
        expect(await lock()).toBeNull();
      });

      it("does not keep a recompute that fails from freeing the lock", async () => {
        const { value, finish, lock } = await beginsWithout(true);
        finish.resolve();
        await expect(value).rejects.toThrow("down");
        expect(await lock()).toBeNull();
      });
    });

    describe("a reply lost on the way", () => {
      // What is shown here is that the client sends again. So the client is back before the library looks for a lost
      // connection, which it does every 100 ms, and here far more seldom: a busy machine may need longer to reconnect.
      const reconnectsAtOnce: RedisOptions = { retryStrategy: () => 1 };
      const seldomLooks: Runtime = {
        ...systemRuntime,
        startTimer: (ms, ref, run) => systemRuntime.startTimer(ms === 100 ? 20_000 : ms, ref, run),
      };
      const openResending = (options: CacheFenceOptions = {}) => openFence(options, reconnectsAtOnce, seldomLooks);

      it("recognises its own lock when the reply to its claim was lost", async () => {
        const { cache } = await openResending();
        let recomputes = 0;
        const lost = proxy.loseReplyTo(/\r\neval(?:sha)?\r\n/i);
        const value = await cache.getOrSet("key", 60, () => ++recomputes);
        await lost;
        expect(value).toBe(1);
        expect(cache.stats()).toMatchObject({ waits: 0, redisErrors: 0 });
        expect(await isStored("key")).toBe(true);
        expect(await isLocked("key")).toBe(false);
      });

      it("claims again when the connection was cut before its claim arrived", async () => {
        const { cache } = await openResending();
        const cut = proxy.cutBefore(/\r\neval(?:sha)?\r\n/i);
        expect(await cache.getOrSet("key", 60, () => "value")).toBe("value");
        await cut;
        expect(cache.stats()).toMatchObject({ waits: 0, redisErrors: 0 });
        expect(await isStored("key")).toBe(true);
        expect(await isLocked("key")).toBe(false);
      });

      it("serves everybody from one recompute when the reply to its store was lost", async () => {
        const { cache } = await openResending();
        const started = deferred();
        const finish = deferred();
        let recomputes = 0;
        const recompute = async () => {
          recomputes++;
          started.resolve();
          await finish.promise;
          return "value";
        };
        const first = cache.getOrSet("key", 60, recompute);
        await started.promise;
        const later = [1, 2, 3].map(() => cache.getOrSet("key", 60, recompute));
        await until("the others have joined", () => cache.stats().coalesced === 3);
        const lost = proxy.loseReplyTo(/\r\neval(?:sha)?\r\n/i);
        finish.resolve();
        expect(await Promise.all([first, ...later])).toEqual(["value", "value", "value", "value"]);
        await lost;
        expect(recomputes).toBe(1);
        expect(await isStored("key")).toBe(true);
        expect(await isLocked("key")).toBe(false);
      });

      it("recognises its own takeover when the reply to it was lost, and does not wait for itself", async () => {
        const { cache } = await openResending({ waitForLock: 1 });
        await observer.set(`${namespace}key:lock`, `cachefence:N${"0".repeat(16)}-${"0".repeat(12)}`, "PX", 60_000);
        // Only a takeover has the lock that it replaces among its words.
        const lost = proxy.loseReplyTo(/\r\ncachefence:N0{16}-0{12}\r\n/);
        let recomputes = 0;
        const value = await cache.getOrSet("key", 60, () => {
          recomputes++;
          return "value";
        });
        await lost;
        expect(value).toBe("value");
        expect(recomputes).toBe(1);
        expect(cache.stats()).toMatchObject({ takeovers: 1, redisErrors: 0 });
        expect(await isStored("key")).toBe(true);
        expect(await isLocked("key")).toBe(false);
      });

      it("resolves an invalidate whose reply was lost, once the client has sent it again", async () => {
        const { cache } = await openResending();
        const lost = proxy.loseReplyTo(/\r\neval(?:sha)?\r\n/i);
        await cache.invalidate("warm");
        await lost;
        expect(await isStored("warm")).toBe(false);
      });
    });

    describe("a network that is slow, but within the deadline", () => {
      it("rebuilds once, waits for nobody, and reports no error", async () => {
        const { cache } = await openFence({ redisTimeout: 5 });
        proxy.delayReplies(150);
        let recomputes = 0;
        const values = await Promise.all(
          Array.from({ length: 20 }, () => cache.getOrSet("key", 60, () => ++recomputes)),
        );
        expect(new Set(values)).toEqual(new Set([1]));
        expect(cache.stats()).toMatchObject({ redisErrors: 0, rebuilds: 2 });
        expect(await isLocked("key")).toBe(false);
      });
    });

    describe("a black hole", () => {
      it("costs the deadline about once a second, not once a call", async () => {
        const { cache } = await openFence();
        proxy.swallow();
        const calls = [];
        const end = performance.now() + 3_000;
        for (let number = 0; performance.now() < end; number++) {
          calls.push(await ended(cache.getOrSet(`key ${number}`, 60, () => number)));
          await sleep(10);
        }
        expect(calls.map(({ value }) => value)).toEqual(calls.map((_, number) => number));
        expect(calls.length).toBeGreaterThan(20);
        expect(calls.filter(({ ms }) => ms > waitedMs)).toHaveLength(1);
        expect(Math.max(...calls.map(({ ms }) => ms))).toBeLessThan(redisTimeout * 1000 + 1_000);
      });

      it("recomputes one at a time for each key, however many callers there are", async () => {
        const { cache } = await openFence();
        proxy.swallow();
        await cache.getOrSet("first to notice", 60, () => 1);
        let running = 0;
        let most = 0;
        let recomputes = 0;
        const recompute = async () => {
          recomputes++;
          most = Math.max(most, ++running);
          await sleep(50);
          running--;
          return "value";
        };
        const calls: Promise<string>[] = [];
        for (let round = 0; round < 10; round++) {
          for (let caller = 0; caller < 10; caller++) calls.push(cache.getOrSet("key", 60, recompute));
          await sleep(10);
        }
        expect(new Set(await Promise.all(calls))).toEqual(new Set(["value"]));
        expect(most).toBe(1);
        expect(recomputes).toBeLessThan(10);
      });

      it("rejects invalidate, set and, under `throw`, getOrSet with an error that carries the key", async () => {
        const { cache } = await openFence({ onRedisError: "throw" });
        proxy.swallow();
        let recomputes = 0;
        const outcomes = await Promise.all([
          ended(cache.getOrSet("a", 60, () => ++recomputes)),
          ended(cache.invalidate("b")),
          ended(cache.set("c", 60, 1)),
        ]);
        expect(outcomes.map(({ error }) => error)).toEqual([
          expect.objectContaining({ key: "a" }),
          expect.objectContaining({ key: "b" }),
          expect.objectContaining({ key: "c" }),
        ]);
        for (const { error, ms } of outcomes) {
          expect(error).toBeInstanceOf(RedisUnavailableError);
          expect(ms).toBeGreaterThan(waitedMs);
        }
        // And from then on at once, also where the default would serve from the source.
        for (const act of [cache.getOrSet("a", 60, () => ++recomputes), cache.invalidate("b"), cache.set("c", 60, 1)]) {
          const { error, ms } = await ended<unknown>(act);
          expect(error).toBeInstanceOf(RedisUnavailableError);
          expect(ms).toBeLessThan(noWaitMs);
        }
        expect(recomputes).toBe(0);
      });

      it("is over as soon as the client has a new connection, though nothing is sent again on it", async () => {
        const { client, cache } = await openFence({}, { autoResendUnfulfilledCommands: false });
        proxy.swallow();
        await cache.getOrSet("first to notice", 60, () => 1);
        proxy.heal();
        await until("the client has reconnected", () => client.status !== "ready");
        await isReady(client);
        let recomputes = 0;
        expect(await cache.getOrSet("warm", 60, () => ++recomputes)).toBe("warm");
        expect(recomputes).toBe(0);
      });

      it("leaves no lock of a claim that went into it", async () => {
        const { client, cache } = await openFence();
        const arrived = proxy.holdFrom(/\r\neval(?:sha)?\r\n/i);
        const call = cache.getOrSet("key", 60, () => "value");
        await arrived;
        expect(await call).toBe("value");
        expect(client.status).toBe("ready");
        proxy.heal();
        // Taken late, and freed: the release was sent behind it, on the same connection.
        await until("the late claim is freed", async () => {
          await client.ping();
          return !(await isLocked("key"));
        });
        expect(await cache.getOrSet("key", 60, () => "again")).toBe("again");
        expect(await isStored("key")).toBe(true);
      });

      it("leaves no lock of a takeover that went into it", async () => {
        const { client, cache } = await openFence({ waitForLock: 0.2 });
        const rival = `cachefence:N${"0".repeat(16)}-${"0".repeat(12)}`;
        await observer.set(`${namespace}key:lock`, rival, "PX", 60_000);
        const arrived = proxy.holdFrom(/\r\ncachefence:N0{16}-0{12}\r\n/);
        const call = cache.getOrSet("key", 60, () => "value");
        await arrived;
        expect(await call).toBe("value");
        proxy.heal();
        await until("the late takeover is freed", async () => {
          await client.ping();
          return !(await isLocked("key"));
        });
      });

      it("costs the deadline, and no more, after close() too, for calls in flight and for later ones", async () => {
        const { cache } = await openFence();
        proxy.swallow();
        const inFlight = ended(cache.getOrSet("in flight", 60, () => "source"));
        await cache.close();
        expect((await inFlight).value).toBe("source");
        expect((await ended(cache.getOrSet("later", 60, () => "source"))).value).toBe("source");
        expect((await ended(cache.invalidate("later"))).error).toBeInstanceOf(RedisUnavailableError);
      });

      it("costs the client's own deadline once, not once a call, where that is the shorter one", async () => {
        const { cache } = await openFence({ redisTimeout: 20 }, { commandTimeout: 2_000 });
        proxy.swallow();
        const calls = [];
        for (let number = 0; number < 6; number++) {
          calls.push(await ended(cache.getOrSet(`key ${number}`, 60, () => number)));
        }
        expect(calls.map(({ value }) => value)).toEqual([0, 1, 2, 3, 4, 5]);
        expect(calls.filter(({ ms }) => ms > 1_500)).toHaveLength(1);
      });

      it("stores the value of a rebuild that ended inside it, once it is over", async () => {
        const { client, cache } = await openFence();
        const started = deferred();
        const finish = deferred();
        const call = cache.getOrSet("key", 60, async () => {
          started.resolve();
          await finish.promise;
          return "value";
        });
        await started.promise;
        expect(await isLocked("key")).toBe(true);
        proxy.hold();
        finish.resolve();
        expect(await call).toBe("value");
        proxy.heal();
        await client.ping();
        expect(await isStored("key")).toBe(true);
        expect(await isLocked("key")).toBe(false);
        expect(await cache.getOrSet("key", 60, () => "again")).toBe("value");
      });

      it("does not let a store that comes late past an invalidate of another process", async () => {
        const { client, cache } = await openFence();
        const other = fenceOver(observer);
        const started = deferred();
        const finish = deferred();
        const call = cache.getOrSet("key", 60, async () => {
          started.resolve();
          await finish.promise;
          return "old";
        });
        await started.promise;
        proxy.hold();
        finish.resolve();
        expect(await call).toBe("old");
        await other.invalidate("key");
        proxy.heal();
        await client.ping();
        expect(await isStored("key")).toBe(false);
        expect(await cache.getOrSet("key", 60, () => "new")).toBe("new");
        expect(await other.getOrSet("key", 60, () => "newer")).toBe("new");
      });
    });

    describe("a connection that is lost", () => {
      it("is not waited for, by calls in flight neither", async () => {
        const { client, cache } = await openFence({ redisTimeout: 20 });
        proxy.hold();
        const inFlight = ended(cache.getOrSet("in flight", 60, () => "value"));
        await sleep(50);
        proxy.down();
        await until("the client knows", () => client.status !== "ready");
        const later = await ended(cache.getOrSet("later", 60, () => "value"));
        const fence = await ended(cache.invalidate("later"));
        expect((await inFlight).value).toBe("value");
        expect((await inFlight).ms).toBeLessThan(5_000);
        expect(later.value).toBe("value");
        expect(later.ms).toBeLessThan(1_000);
        expect(fence.error).toBeInstanceOf(RedisUnavailableError);
        expect(fence.ms).toBeLessThan(1_000);
      });

      it("wakes the waiter of another process's rebuild, which then recomputes by itself", async () => {
        const { cache } = await openFence({ redisTimeout: 20, waitForLock: 30 });
        await observer.set(`${namespace}key:lock`, `cachefence:N${"0".repeat(16)}-${"0".repeat(12)}`, "PX", 60_000);
        const call = ended(cache.getOrSet("key", 60, () => "value"));
        await until("it is subscribed", () => proxy.open === 2);
        proxy.down();
        const { value, ms } = await call;
        expect(value).toBe("value");
        expect(ms).toBeLessThan(8_000);
      });

      it.each([
        ["the default client", {}],
        ["a client that resends nothing", { autoResendUnfulfilledCommands: false }],
        ["a client without an offline queue", { enableOfflineQueue: false }],
        ["a client that retries once", { maxRetriesPerRequest: 1 }],
      ] satisfies [string, RedisOptions][])(
        "leaves no lock of a rebuild that ended while it was away, with %s",
        async (_, clientOptions) => {
          const { client, cache } = await openFence({}, clientOptions);
          const started = deferred();
          const finish = deferred();
          const call = cache.getOrSet("key", 60, async () => {
            started.resolve();
            await finish.promise;
            return "value";
          });
          await started.promise;
          proxy.down();
          await until("the client knows", () => client.status !== "ready");
          finish.resolve();
          expect(await call).toBe("value");
          expect(await isLocked("key")).toBe(true);
          const tries = proxy.accepted;
          await until(
            "the client has tried again in vain, and given up what it will",
            () => proxy.accepted >= tries + 3,
          );
          proxy.heal();
          await until("the lock is free", async () => !(await isLocked("key")));
        },
      );

      it("serves hits again as soon as the client is ready", async () => {
        const { client, cache } = await openFence();
        proxy.down();
        await until("the client knows", () => client.status !== "ready");
        expect(await cache.getOrSet("warm", 60, () => "source")).toBe("source");
        proxy.heal();
        await isReady(client);
        expect(await cache.getOrSet("warm", 60, () => "source")).toBe("warm");
      });

      it("is found again after a half-close", async () => {
        const { client, cache } = await openFence();
        const taken = proxy.accepted;
        proxy.halfClose();
        await until("the client has a new connection", () => proxy.accepted > taken && client.status === "ready");
        expect(await cache.getOrSet("warm", 60, () => "source")).toBe("warm");
        expect(await cache.getOrSet("key", 60, () => "value")).toBe("value");
        expect(await isStored("key")).toBe(true);
      });

      it("leaves no listener on the client, after many outages", async () => {
        const { client, cache } = await openFence();
        const listeners = () => client.eventNames().map((event) => [event, client.listenerCount(event)]);
        const before = listeners();
        for (let outage = 0; outage < 5; outage++) {
          proxy.down();
          await until("the client knows", () => client.status !== "ready");
          await cache.getOrSet(`key ${outage}`, 60, () => 1);
          proxy.heal();
          await isReady(client);
          await cache.getOrSet(`key ${outage}`, 60, () => 1);
        }
        expect(listeners()).toEqual(before);
      });
    });

    describe("an outage", () => {
      it("is waited out by a dozen caches of one client with one listener: node warns of no leak", async () => {
        const { client } = await openFence();
        const fences = Array.from({ length: 12 }, (_, at) => fenceOver(client, { namespace: `${namespace}${at}:` }));
        await Promise.all(fences.map((cache) => cache.getOrSet("key", 60, () => 1)));
        const listeners = client.listenerCount("ready");
        const warnings: Error[] = [];
        const listener = (warning: Error) => void warnings.push(warning);
        process.on("warning", listener);
        try {
          proxy.down();
          await until("the client knows", () => client.status !== "ready");
          await Promise.all(fences.map((cache) => cache.getOrSet("key", 60, () => 2)));
          expect(client.listenerCount("ready")).toBe(listeners + 1);
          await settle();
        } finally {
          process.off("warning", listener);
        }
        expect(warnings).toEqual([]);
        proxy.heal();
        await isReady(client);
        const again = await Promise.all(fences.map((cache) => cache.getOrSet("key", 60, () => 2)));
        expect(again).toEqual(fences.map(() => 1));
      });

      it("is one error and one event for each call, rebuild and fence of a key that meets it", async () => {
        const { client, cache } = await openFence();
        const throwing = fenceOver(client, { onRedisError: "throw" });
        const started = deferred();
        const finish = deferred();
        const rebuild = cache.getOrSet("rebuilt", 60, async () => {
          started.resolve();
          await finish.promise;
          return "value";
        });
        await started.promise;
        const keys: string[] = [];
        const listener = (message: unknown) => void keys.push((message as { key: string }).key);
        subscribe("cachefence:redis-error", listener);
        try {
          proxy.down();
          await until("the client knows", () => client.status !== "ready");
          expect(cache.stats().redisErrors).toBe(0);
          finish.resolve();
          expect(await rebuild).toBe("value");
          expect(await cache.getOrSet("got", 60, () => "value")).toBe("value");
          await expect(cache.set("set", 60, 1)).rejects.toThrow(RedisUnavailableError);
          await expect(cache.invalidate("removed", "removed too")).rejects.toThrow(AggregateError);
          expect(cache.stats().redisErrors).toBe(5);
          await expect(throwing.getOrSet("thrown", 60, () => 1)).rejects.toThrow(RedisUnavailableError);
          expect(throwing.stats().redisErrors).toBe(1);
          expect(keys).toEqual(["rebuilt", "got", "set", "removed", "removed too", "thrown"]);
        } finally {
          unsubscribe("cachefence:redis-error", listener);
        }
      });
    });

    describe("a client that is making its first connection", () => {
      it.each([
        ["at once", {}],
        ["at the first command", { lazyConnect: true }],
      ] satisfies [string, RedisOptions][])("is waited for, within the deadline: connecting %s", async (_, options) => {
        await observer.hset(`${namespace}key`, { v: '"cached"', delta: "0", expiry: String(Date.now() / 1000 + 60) });
        proxy.delayReplies(100);
        const cache = fenceOver(openClient(options), { redisTimeout: 20 });
        expect(await cache.getOrSet("key", 60, () => "source")).toBe("cached");
      });

      it("is given up at the deadline, and used when it has come", async () => {
        await observer.hset(`${namespace}key`, { v: '"cached"', delta: "0", expiry: String(Date.now() / 1000 + 60) });
        proxy.down();
        const client = openClient();
        const cache = fenceOver(client);
        const first = await ended(cache.getOrSet("key", 60, () => "source"));
        expect(first.value).toBe("source");
        expect(first.ms).toBeGreaterThan(waitedMs);
        const second = await ended(cache.getOrSet("key", 60, () => "source"));
        expect(second.value).toBe("source");
        expect(second.ms).toBeLessThan(noWaitMs);
        proxy.heal();
        await isReady(client);
        expect(await cache.getOrSet("key", 60, () => "source")).toBe("cached");
      });

      it("without an offline queue, is not waited for", async () => {
        proxy.delayReplies(200);
        const client = openClient({ enableOfflineQueue: false });
        const cache = fenceOver(client, { redisTimeout: 20 });
        expect(await cache.getOrSet("key", 60, () => "source")).toBe("source");
        proxy.heal();
        await isReady(client);
        expect(await cache.getOrSet("key", 60, () => "stored")).toBe("stored");
        expect(await isStored("key")).toBe(true);
      });
    });
  });
});
