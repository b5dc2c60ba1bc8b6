import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { CacheFence, type CacheFenceOptions } from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { RedisFault } from "../../src/link/redis-link.js";
import { type Runtime, systemRuntime } from "../../src/runtime.js";
import { deferred } from "../support/deferred.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { settle } from "../support/manual-runtime.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";
import { startTcpProxy } from "../support/tcp-proxy.js";
import { until } from "../support/waiting.js";

// No test lasts as long as this lease: a lock that is gone was freed by somebody.
const lockTimeout = 60;

// A permission that lacks. Of a command in a script 6.2 and 7.0 say the second, 7.2 and later and Valkey the third.
const denied = /^NOPERM |^(?:ERR )?The user executing the script can't |^ERR ACL failure in script: /;

describeOwnRedis("a server that denies", () => {
  describe.each(majors)("ioredis $name", (major) => {
    let server: RedisServer;
    let admin: Redis;
    let namespace: string;
    let users = 0;
    const clients: Redis[] = [];
    const caches: CacheFence[] = [];

    beforeAll(async () => {
      server = await startRedis();
      admin = new major.Redis(server.url);
    });
    afterAll(async () => {
      admin.disconnect();
      await server.stop();
    });
    beforeEach(() => {
      namespace = uniquePrefix();
    });
    afterEach(async () => {
      for (const cache of caches.splice(0)) await cache.close();
      for (const client of clients.splice(0)) client.disconnect();
    });

    /** A client of a new user with these rights. */
    async function openClient(...rules: string[]): Promise<Redis> {
      const username = `user-${++users}`;
      await admin.call("ACL", "SETUSER", username, "on", ">password", ...rules);
      const client = new major.Redis(server.port, server.host, { username, password: "password" });
      clients.push(client);
      await client.ping();
      return client;
    }

    function fenceOver(client: Redis, options: CacheFenceOptions = {}): CacheFence {
      const cache = new CacheFence(client, { namespace, lockTimeout, beta: 0, redisTimeout: 10, ...options });
      caches.push(cache);
      return cache;
    }

    const isLocked = async (key: string) => (await admin.exists(`${namespace}${key}:lock`)) === 1;
    const isStored = async (key: string) => (await admin.exists(`${namespace}${key}`)) === 1;

    /** Resolves when the client has its answer to a claim: by script, or by SET where scripting is denied. */
    function claimIsAnswered(client: Redis): Promise<void> {
      const answered = deferred();
      for (const name of ["eval", "evalsha", "set"] as const) {
        const real = client[name].bind(client) as (...args: unknown[]) => Promise<unknown>;
        const watched = async (...args: unknown[]) => {
          const reply = await real(...args);
          answered.resolve();
          return reply;
        };
        Object.assign(client, { [name]: watched });
      }
      return answered.promise;
    }

    /** A holder, and a waiter in another process; resolves with their values, and how often their source was asked. */
    async function rebuildTogether(client: Redis, other: Redis) {
      let recomputes = 0;
      const started = deferred();
      const finish = deferred();
      const recompute = async () => {
        recomputes++;
        started.resolve();
        await finish.promise;
        return "value";
      };
      const holder = fenceOver(client).getOrSet("key", 60, recompute);
      await started.promise;
      const waiting = fenceOver(other);
      const refused = claimIsAnswered(other);
      const waiter = waiting.getOrSet("key", 60, recompute);
      await refused;
      finish.resolve();
      return { values: await Promise.all([holder, waiter]), recomputes, waits: waiting.stats().waits };
    }

    /** Rebuilds of several keys, whose recomputes run until they are told to finish. */
    async function startRebuilds(cache: CacheFence) {
      const keys = ["a", "b", "c", "d", "e"];
      const finish = deferred();
      let started = 0;
      const calls = keys.map((key) =>
        cache.getOrSet(key, 60, async () => {
          started++;
          await finish.promise;
          return key;
        }),
      );
      await until("all have started", () => started === keys.length);
      expect(await Promise.all(keys.map(isLocked))).toEqual(keys.map(() => true));
      return { keys, values: Promise.all(calls), finish: finish.resolve };
    }

    describe("scripting", () => {
      const noScripting = ["~*", "&*", "+@all", "-@scripting"];

      it("changes nothing: one rebuild, stored, and the lock freed", async () => {
        const rebuilt = await rebuildTogether(await openClient(...noScripting), await openClient(...noScripting));
        expect(rebuilt).toEqual({ values: ["value", "value"], recomputes: 1, waits: 1 });
        expect(await isStored("key")).toBe(true);
        expect(await isLocked("key")).toBe(false);
      });

      it("changes nothing in another database that the client has selected", async () => {
        const client = await openClient(...noScripting);
        const cache = fenceOver(client);
        for (const database of [3, 5]) {
          await client.select(database);
          expect(await cache.getOrSet("key", 60, () => database)).toBe(database);
          expect(await client.keys(`${namespace}*`)).toEqual([`${namespace}key`]);
          await cache.invalidate("key");
          expect(await client.keys(`${namespace}*`)).toEqual([]);
        }
        expect(cache.stats()).toMatchObject({ refusedStores: 0, redisErrors: 0 });
      });

      it("changes nothing: a store that was fenced off meanwhile is refused", async () => {
        const cache = fenceOver(await openClient(...noScripting));
        const other = fenceOver(await openClient(...noScripting));
        const value = await cache.getOrSet("key", 60, async () => {
          await other.invalidate("key");
          return "old";
        });
        expect(value).toBe("old");
        expect(await isStored("key")).toBe(false);
        expect(cache.stats()).toMatchObject({ refusedStores: 1, redisErrors: 0 });
      });

      it("changes nothing: a taker's lock is not released by the one that it was taken from", async () => {
        const cache = fenceOver(await openClient(...noScripting));
        const rival = `cachefence:N${"f".repeat(16)}-${"f".repeat(12)}`;
        const failure = new Error("source down");
        const call = cache.getOrSet("key", 60, async () => {
          await admin.set(`${namespace}key:lock`, rival, "PX", 60_000);
          throw failure;
        });
        await expect(call).rejects.toMatchObject({ cause: failure });
        await cache.set("other", 60, 1); // One transaction at a time: the release has run before this one.
        expect(await admin.get(`${namespace}key:lock`)).toBe(rival);
      });

      it("changes nothing: of many waiters one takes over", async () => {
        await admin.set(`${namespace}key:lock`, `cachefence:N${"0".repeat(16)}-${"0".repeat(12)}`, "PX", 60_000);
        let recomputes = 0;
        const calls = [];
        for (let process = 0; process < 5; process++) {
          const cache = fenceOver(await openClient(...noScripting), { waitForLock: 0.3 });
          calls.push(cache.getOrSet("key", 60, () => ++recomputes));
        }
        expect(await Promise.all(calls)).toEqual([1, 1, 1, 1, 1]);
        expect(await isLocked("key")).toBe(false);
      });

      it("changes nothing: no lock is left of rebuilds that end while the server is silent", async () => {
        const client = await openClient(...noScripting);
        // What all caches over the client share is made, and the refusal known.
        await fenceOver(client).set("warm", 60, 1);
        const cache = fenceOver(client, { redisTimeout: 0.5 });
        const rebuilds = await startRebuilds(cache);
        server.process.kill("SIGSTOP");
        try {
          rebuilds.finish();
          expect(await rebuilds.values).toEqual(rebuilds.keys);
          // Long enough for each store and each release to be given up, one after the other.
          await sleep(2 * rebuilds.keys.length * 550);
        } finally {
          server.process.kill("SIGCONT");
        }
        await until("the locks are free", async () => !(await Promise.all(rebuilds.keys.map(isLocked))).includes(true));
      });

      it("changes nothing: no lock is left of rebuilds that end while the connection is lost", async () => {
        const proxy = await startTcpProxy(server.port);
        try {
          const client = await openClient(...noScripting);
          const far = client.duplicate({ port: proxy.port, retryStrategy: () => 50 });
          far.on("error", () => undefined);
          clients.push(far);
          const cache = fenceOver(far, { redisTimeout: 5 });
          await until("the client is ready", () => far.status === "ready");
          await cache.set("warm", 60, 1);
          const rebuilds = await startRebuilds(cache);
          proxy.down();
          await until("the client knows", () => far.status !== "ready");
          rebuilds.finish();
          expect(await rebuilds.values).toEqual(rebuilds.keys);
          const tries = proxy.accepted;
          await until("it has tried again in vain", () => proxy.accepted >= tries + 10);
          proxy.heal();
          await until(
            "the locks are free",
            async () => !(await Promise.all(rebuilds.keys.map(isLocked))).includes(true),
          );
        } finally {
          await proxy.stop();
        }
      });

      it("hides no cause behind that of the aborted transaction: out of memory is said to be that", async () => {
        const cache = fenceOver(await openClient(...noScripting), { onRedisError: "throw" });
        await cache.set("warm", 60, 1);
        try {
          const call = cache.getOrSet("key", 60, async () => {
            await admin.config("SET", "maxmemory", "1");
            return "value";
          });
          await expect(call).rejects.toThrow(/OOM/);
          await expect(cache.set("key", 60, 1)).rejects.toThrow(/OOM/);
        } finally {
          await admin.config("SET", "maxmemory", "0");
        }
      });

      it("is noticed when it begins, and when it ends", async () => {
        const client = await openClient("~*", "&*", "+@all");
        const username = `user-${users}`;
        const cache = fenceOver(client);
        await cache.set("key", 60, "with");
        await admin.call("ACL", "SETUSER", username, "-@scripting");
        await cache.set("key", 60, "without");
        expect(await cache.getOrSet("key", 60, () => "source")).toBe("without");
        await admin.call("ACL", "SETUSER", username, "+@scripting", "-watch", "-multi");
        const isReady = once(client, "ready");
        client.disconnect(true);
        await isReady;
        await cache.set("key", 60, "with again");
        expect(await cache.getOrSet("key", 60, () => "source")).toBe("with again");
      });

      it("opens one connection, however many writes there are", async () => {
        const client = await openClient(...noScripting);
        // They wait for each other, and on a busy machine for long.
        const cache = fenceOver(client, { redisTimeout: 10 });
        const username = `user-${users}`;
        await Promise.all(Array.from({ length: 50 }, (_, n) => cache.set(`key ${n}`, 60, n)));
        const connections = ((await admin.client("LIST")) as string)
          .split("\n")
          .filter((one) => one.includes(username));
        expect(connections).toHaveLength(2);
      });
    });

    describe("pub/sub", () => {
      it.each([
        ["the channel", ["~*", "+@all", "resetchannels"]],
        ["the commands", ["~*", "&*", "+@all", "-@pubsub"]],
        ["only PUBLISH", ["~*", "&*", "+@all", "-publish"]],
        ["only SUBSCRIBE", ["~*", "&*", "+@all", "-subscribe"]],
        ["the channel, and scripting", ["~*", "+@all", "resetchannels", "-@scripting"]],
        ["the commands, and scripting", ["~*", "&*", "+@all", "-@pubsub", "-@scripting"]],
      ])("costs only speed: %s denied", async (_, rules) => {
        const rebuilt = await rebuildTogether(await openClient(...rules), await openClient(...rules));
        expect(rebuilt).toEqual({ values: ["value", "value"], recomputes: 1, waits: 1 });
        expect(await isStored("key")).toBe(true);
        expect(await isLocked("key")).toBe(false);
        expect(caches.map((cache) => cache.stats().redisErrors)).toEqual([0, 0]);
      });
    });

    describe("PUBLISH alone", () => {
      it("gives the copies up at the first fence that it cannot confirm, and says so once", async () => {
        const reasons: unknown[] = [];
        const listener = (message: unknown) => void reasons.push((message as { reason: unknown }).reason);
        subscribe("cachefence:no-memory", listener);
        try {
          const memory = new Map();
          const client = await openClient("~*", "&*", "+@all", "-publish");
          const cache = fenceOver(client, { memory, memoryLease: 0.5 });
          const source = async () => (await cache.getOrSetEntry("key", 60, () => "value")).source;
          await until("there is a copy", async () => (await source()) === "memory");
          await fenceOver(admin).invalidate("key");
          await until("there are no more", async () => {
            await cache.getOrSet("key", 60, () => "value");
            return reasons.length > 0;
          });
          for (let read = 0; read < 5; read++) expect(await source()).toBe("redis");
          expect(String(reasons)).toBe("Error: The server denies PUBLISH");
        } finally {
          unsubscribe("cachefence:no-memory", listener);
        }
      });
    });

    describe("what a fence is made of", () => {
      it.for([
        ["-zrange", []],
        ["-@sortedset", []],
        ["-zrange", ["-@scripting"]],
      ] as const)("is no fence without %s: who has a copy is not known, and it rejects, with %s too", async (row) => {
        const [rule, rules] = row;
        await fenceOver(admin).set("key", 60, "old", { tags: ["t"] });
        const cache = fenceOver(await openClient("~*", "&*", "+@all", rule, ...rules));
        await expect(cache.set("key", 60, "new")).rejects.toThrow(denied);
        await expect(cache.invalidate("key")).rejects.toThrow(denied);
        await expect(cache.invalidateTags("t")).rejects.toThrow(denied);
      });

      it.each([
        ["by script", []],
        ["without scripting", ["-@scripting"]],
      ])("is no fence without DEL: a set rejects while a rebuild holds the lock, %s", async (_, rules) => {
        const gate = deferred<string>();
        const rebuilding = fenceOver(admin);
        const old = rebuilding.getOrSet("key", 60, () => gate.promise);
        await until("it is under way", () => rebuilding.stats().rebuilds === 1);
        const cache = fenceOver(await openClient("~*", "&*", "+@all", "-del", ...rules));
        await expect(cache.set("key", 60, "new")).rejects.toThrow(denied);
        gate.resolve("old");
        expect(await old).toBe("old");
      });

      it.each([
        ["by script", []],
        ["without scripting", ["-@scripting"]],
      ])("leaves a lock, and says so, where it may not be freed: without DEL, %s", async (_, rules) => {
        const cache = fenceOver(await openClient("~*", "&*", "+@all", "-del", ...rules));
        const failure = new Error("source down");
        const call = cache.getOrSet("key", 60, () => Promise.reject(failure));
        await expect(call).rejects.toMatchObject({ cause: failure });
        expect(cache.stats().redisErrors).toBe(1);
      });

      it("leaves a lock behind a store, and says so, where that may not be freed: without DEL", async () => {
        const cache = fenceOver(await openClient("~*", "&*", "+@all", "-del"));
        const call = () => cache.getOrSet("key", 60, () => "value", { tags: ["t"] });
        expect(await Promise.all([call(), call()])).toEqual(["value", "value"]);
        expect(await isStored("key")).toBe(true);
        expect(cache.stats()).toMatchObject({ rebuilds: 1, redisErrors: 1 });
        await until("its tag is kept", async () => (await admin.pttl(`${namespace}t:tag`)) > 3_600_000);
      });
    });

    describe("TIME", () => {
      it("is told by the host's clock then", async () => {
        const cache = fenceOver(await openClient("~*", "&*", "+@all", "-time"));
        let recomputes = 0;
        expect(await cache.getOrSet("key", 60, () => ++recomputes)).toBe(1);
        expect(await cache.getOrSet("key", 60, () => ++recomputes)).toBe(1);
        expect(cache.stats()).toMatchObject({ hits: 1, redisErrors: 0 });
      });
    });

    describe("keys", () => {
      it("surfaces the error of a lock whose name no pattern covers, and still serves hits", async () => {
        await fenceOver(admin).set("cached", 60, "cached");
        const cache = fenceOver(await openClient(`~${namespace}key`, `~${namespace}cached`, "&*", "+@all"));
        let recomputes = 0;
        expect(await cache.getOrSet("cached", 60, () => ++recomputes)).toBe("cached");
        await expect(cache.getOrSet("key", 60, () => ++recomputes)).rejects.toThrow(/^NOPERM /);
        await expect(cache.set("key", 60, 1)).rejects.toThrow(/^NOPERM /);
        await expect(cache.invalidate("key")).rejects.toThrow(/^NOPERM /);
        expect(recomputes).toBe(0);
        expect(cache.stats().redisErrors).toBe(3);
      });

      it.for([
        ["by script", []],
        ["without scripting", ["-@scripting"]],
      ] as const)(
        "surfaces the error of an entry that may only be read, and leaves no lock, %s",
        async (row, { skip }) => {
          const [, rules] = row;
          const onlyReads = [`%R~${namespace}key`, `~${namespace}key:lock`, "&*", "+@all", ...rules];
          const client = await openClient(...onlyReads).catch((error: unknown) => {
            // Redis 6.2 has no patterns for reads alone.
            if (/%R~.*Syntax error/.test(String(error))) return skip("the server has no %R~");
            throw error;
          });
          const cache = fenceOver(client);
          await expect(cache.getOrSet("key", 60, () => "value")).rejects.toThrow(denied);
          await expect(cache.set("key", 60, "value")).rejects.toThrow(denied);
          await until("the lock is free", async () => !(await isLocked("key")));
        },
      );

      it.each([
        ["by script", []],
        ["without scripting", ["-@scripting"]],
      ])("surfaces the error of a write that is denied, and leaves no lock, %s", async (_, rules) => {
        const cache = fenceOver(await openClient("~*", "&*", "+@all", "-hset", ...rules));
        for (const act of [() => cache.getOrSet("key", 60, () => "value"), () => cache.set("key", 60, "value")]) {
          const error: unknown = await act().catch((thrown: unknown) => thrown);
          expect(error).not.toBeInstanceOf(RedisFault);
          expect((error as Error).message).toMatch(denied);
        }
        await until("the lock is free", async () => !(await isLocked("key")));
      });

      it("releases nothing, neither at once nor later, after claims of a lock that was denied", async () => {
        const client = await openClient(`~${namespace}key`, "&*", "+@all");
        let scripts = 0;
        for (const name of ["eval", "evalsha"] as const) {
          const real = client[name].bind(client) as (...args: unknown[]) => Promise<unknown>;
          const counting = (...args: unknown[]) => {
            scripts++;
            return real(...args);
          };
          Object.assign(client, { [name]: counting });
        }
        // Whatever would come later comes at once.
        const runtime: Runtime = {
          ...systemRuntime,
          startTimer: (_, ref, run) => systemRuntime.startTimer(0, ref, run),
        };
        const cache = new CacheFence(client, { namespace, lockTimeout }, runtime);
        caches.push(cache);
        for (let call = 0; call < 20; call++) {
          await expect(cache.getOrSet("key", 60, () => 1)).rejects.toThrow(/^NOPERM /);
        }
        for (let round = 0; round < 20; round++) {
          await client.ping();
          await settle();
        }
        // One for each claim, and none to release.
        expect(scripts).toBe(20);
        expect(cache.stats().redisErrors).toBe(20);
      });

      it("surfaces the error of an entry that no pattern covers", async () => {
        const cache = fenceOver(await openClient("~nothing", "&*", "+@all"));
        let recomputes = 0;
        await expect(cache.getOrSet("key", 60, () => ++recomputes)).rejects.toThrow(/^NOPERM /);
        expect(recomputes).toBe(0);
      });

      it("surfaces the error of a read command, and no other user's cache suffers", async () => {
        const cache = fenceOver(await openClient("~*", "&*", "+@all", "-hmget"));
        await expect(cache.getOrSet("key", 60, () => 1)).rejects.toThrow(/^NOPERM /);
        expect(await fenceOver(admin).getOrSet("key", 60, () => 2)).toBe(2);
      });
    });
  });
});
