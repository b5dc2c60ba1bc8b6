import { waitersOf } from "../support/audience.js";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { CacheFence, type CacheFenceOptions } from "cachefence";
import type { Redis, RedisOptions } from "ioredis";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { RedisFault } from "../../src/link/redis-link.js";
import { deferred } from "../support/deferred.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";
import { ended, until } from "../support/waiting.js";

const redisTimeout = 0.5;
const noWaitMs = redisTimeout * 1000 * 0.6;
// No test lasts as long as this lease: a lock that is gone was freed by somebody.
const lockTimeout = 60;

describeOwnRedis("a server that fails", () => {
  describe.each(majors)("ioredis $name", (major) => {
    let server: RedisServer;
    let observer: Redis;
    let namespace: string;
    const clients: Redis[] = [];
    const caches: CacheFence[] = [];

    beforeEach(async () => {
      server = await startRedis({ args: ["--repl-diskless-sync-delay", "0"] });
      observer = openClient();
      namespace = uniquePrefix();
    });
    afterEach(async () => {
      for (const cache of caches.splice(0)) await cache.close();
      for (const client of clients.splice(0)) client.disconnect();
      await server.stop();
    });

    function openClient(options: RedisOptions = {}, { host, port } = server): Redis {
      const client = new major.Redis(port, host, { retryStrategy: () => 50, ...options });
      client.on("error", () => undefined);
      clients.push(client);
      return client;
    }

    function fenceOver(client: Redis, options: CacheFenceOptions = {}): CacheFence {
      const cache = new CacheFence(client, { namespace, redisTimeout, lockTimeout, beta: 0, ...options });
      caches.push(cache);
      return cache;
    }

    async function openFence(options: CacheFenceOptions = {}, clientOptions: RedisOptions = {}) {
      const client = openClient(clientOptions);
      const cache = fenceOver(client, options);
      // Its deadline is short: the connection is made before.
      await client.ping();
      await cache.getOrSet("warm", 60, () => "warm");
      return { client, cache };
    }

    /** A rebuild whose recompute runs until it is told to finish. */
    async function startRebuild(cache: CacheFence, key = "key") {
      const started = deferred();
      const finish = deferred();
      const value = cache.getOrSet(key, 60, async () => {
        started.resolve();
        await finish.promise;
        return "value";
      });
      await started.promise;
      return { value, finish: finish.resolve };
    }

    const isLocked = async (key: string) => (await observer.exists(`${namespace}${key}:lock`)) === 1;
    const isStored = async (key: string) => (await observer.exists(`${namespace}${key}`)) === 1;
    const isReady = (client: Redis) => until("the client is ready", () => client.status === "ready");

    describe("stopped by SIGSTOP", () => {
      it("costs the deadline once, then nothing, and is used again when it continues", async () => {
        const { cache } = await openFence();
        server.process.kill("SIGSTOP");
        const first = await ended(cache.getOrSet("a", 60, () => "source"));
        const others = await Promise.all(
          ["b", "c", "warm"].map((key) => ended(cache.getOrSet(key, 60, () => "source"))),
        );
        server.process.kill("SIGCONT");
        expect([first, ...others].map(({ value }) => value)).toEqual(Array(4).fill("source"));
        expect(first.ms).toBeGreaterThan(redisTimeout * 1000 * 0.9);
        for (const { ms } of others) expect(ms).toBeLessThan(noWaitMs);
        await until("hits are served again", async () => (await cache.getOrSet("warm", 60, () => "source")) === "warm");
      });

      it("leaves no lock of a rebuild that it interrupted, and stores its value", async () => {
        const { client, cache } = await openFence();
        const { value, finish } = await startRebuild(cache);
        server.process.kill("SIGSTOP");
        finish();
        expect(await value).toBe("value");
        server.process.kill("SIGCONT");
        await client.ping();
        expect(await isStored("key")).toBe(true);
        expect(await isLocked("key")).toBe(false);
      });

      it("gives the waiter of another process's rebuild a value of its own", async () => {
        const { cache } = await openFence({ waitForLock: 30 });
        const other = fenceOver(openClient(), { redisTimeout: 30 });
        const rebuild = await startRebuild(other);
        const waiting = ended(cache.getOrSet("key", 60, () => "source"));
        await until("it listens", async () => (await waitersOf(observer, `${namespace}key`)) === 1);
        server.process.kill("SIGSTOP");
        const { value, ms } = await waiting;
        server.process.kill("SIGCONT");
        expect(value).toBe("source");
        expect(ms).toBeLessThan(10_000);
        rebuild.finish();
        expect(await rebuild.value).toBe("value");
      });
    });

    describe("answering an event loop that was blocked for longer than redisTimeout", () => {
      /** As a stopped process is, whose replies wait in the socket meanwhile. */
      const block = () => {
        const endMs = performance.now() + redisTimeout * 1000 * 2;
        while (performance.now() < endMs);
      };

      it("leaves a hit a hit", async () => {
        const { cache } = await openFence();
        const call = cache.getOrSet("warm", 60, () => "source");
        block();
        expect(await call).toBe("warm");
        expect(cache.stats()).toMatchObject({ hits: 1, redisErrors: 0 });
      });

      it("leaves an invalidate done", async () => {
        const { cache } = await openFence();
        const call = cache.invalidate("warm");
        block();
        await call;
        expect(await isStored("warm")).toBe(false);
      });

      it("leaves a waiter waiting, one that has just looked too", async () => {
        const { value, finish } = await startRebuild(fenceOver(openClient(), { redisTimeout: 20 }));
        const { client, cache } = await openFence({ waitForLock: 30 });
        // It has claimed before: the script is known.
        const claim = client.evalsha.bind(client) as (...args: unknown[]) => Promise<unknown>;
        const blocked = deferred();
        const claimAndBlock = (...args: unknown[]) => {
          Object.assign(client, { evalsha: claim });
          const reply = claim(...args);
          block();
          blocked.resolve();
          return reply;
        };
        Object.assign(client, { evalsha: claimAndBlock });
        const call = cache.getOrSet("key", 60, () => "source");
        await blocked.promise;
        await client.ping();
        finish();
        expect(await Promise.all([value, call])).toEqual(["value", "value"]);
        expect(cache.stats()).toMatchObject({ waits: 1, redisErrors: 0 });
      });
    });

    describe("killed and restarted empty", () => {
      it("gives every caller a value meanwhile, and is used again at once when it is back", async () => {
        const { client, cache } = await openFence();
        const rebuild = await startRebuild(cache);
        server.process.kill("SIGKILL");
        await until("the client knows", () => client.status !== "ready");
        const meanwhile = await Promise.all(
          ["a", "b", "warm"].map((key) => ended(cache.getOrSet(key, 60, () => "source"))),
        );
        expect(meanwhile.map(({ value }) => value)).toEqual(Array(3).fill("source"));
        for (const { ms } of meanwhile) expect(ms).toBeLessThan(noWaitMs);
        rebuild.finish();
        expect(await rebuild.value).toBe("value");

        const { port } = server;
        await server.stop();
        server = await startRedis({ port });
        await isReady(client);
        let recomputes = 0;
        expect(await cache.getOrSet("warm", 60, () => ++recomputes)).toBe(1);
        expect(await cache.getOrSet("warm", 60, () => ++recomputes)).toBe(1);
        expect(await isLocked("key")).toBe(false);
      });

      it("refuses the store of a rebuild whose lock it has forgotten, and lets the next one through", async () => {
        const { client, cache } = await openFence();
        const rebuild = await startRebuild(cache);
        const { port } = server;
        await server.stop();
        server = await startRedis({ port });
        await isReady(client);
        await isReady(observer);
        rebuild.finish();
        expect(await rebuild.value).toBe("value");
        expect(await isStored("key")).toBe(false);
        expect(cache.stats().refusedStores).toBe(1);
        expect(await cache.getOrSet("key", 60, () => "next")).toBe("next");
        expect(await isStored("key")).toBe(true);
      });
    });

    describe("SCRIPT FLUSH", () => {
      it("costs one command more, and neither value nor lock", async () => {
        const { cache } = await openFence();
        const rebuild = await startRebuild(cache);
        await observer.script("FLUSH");
        rebuild.finish();
        expect(await rebuild.value).toBe("value");
        expect(await isStored("key")).toBe(true);
        expect(await isLocked("key")).toBe(false);
        await observer.script("FLUSH");
        await cache.invalidate("key");
        expect(await isStored("key")).toBe(false);
        expect(cache.stats().redisErrors).toBe(0);
      });
    });

    describe("out of memory", () => {
      it("serves from the source, and leaves no lock of a rebuild that it caught", async () => {
        const { cache } = await openFence();
        const rebuild = await startRebuild(cache);
        await observer.config("SET", "maxmemory", "1");
        rebuild.finish();
        expect(await rebuild.value).toBe("value");
        await until("the lock is free", async () => !(await isLocked("key")));
        expect(await cache.getOrSet("other", 60, () => "source")).toBe("source");
        expect(await cache.getOrSet("warm", 60, () => "source")).toBe("warm");
        await cache.invalidate("warm");
        expect(await isStored("warm")).toBe(false);
        await observer.config("SET", "maxmemory", "0");
        expect(await cache.getOrSet("other", 60, () => "stored")).toBe("stored");
        expect(await isStored("other")).toBe(true);
      });

      it("keeps the old entry, for a script takes no more memory than a command: set rejects, a rebuild does not", async () => {
        const { cache } = await openFence({ onRedisError: "recompute" });
        const stale = { v: '"old"', delta: "0", expiry: String(Date.now() / 1000 - 60) };
        await observer.hset(`${namespace}key`, stale);
        const rebuild = await startRebuild(cache);
        await observer.config("SET", "maxmemory", "1");
        rebuild.finish();
        expect(await rebuild.value).toBe("value");
        expect(await isLocked("key")).toBe(false);
        await expect(cache.set("key", 60, "new")).rejects.toThrow(/^OOM /);
        expect(await isLocked("key")).toBe(false);
        expect(await observer.hgetall(`${namespace}key`)).toEqual(stale);
        await expect(cache.set("other", 60, "new")).rejects.toThrow(/^OOM /);
        expect(await isStored("other")).toBe(false);
      });

      it("frees the lock of a refresh that has failed, though there is no room for a pause", async () => {
        const { cache } = await openFence({ staleFor: 600, onRedisError: "recompute" });
        await observer.hset(`${namespace}key`, { v: '"old"', delta: "0", expiry: String(Date.now() / 1000 - 60) });
        const began = deferred();
        const gate = deferred<string>();
        const refreshed = cache.getOrSet("key", 60, () => {
          began.resolve();
          return gate.promise;
        });
        await began.promise;
        await observer.config("SET", "maxmemory", "1");
        gate.reject(new Error("source down"));
        expect(await refreshed).toBe("old");
        expect(await isLocked("key")).toBe(false);
      });

      it("rejects with the Redis error under `throw`", async () => {
        const { cache } = await openFence({ onRedisError: "throw" });
        await observer.config("SET", "maxmemory", "1");
        let recomputes = 0;
        await expect(cache.getOrSet("key", 60, () => ++recomputes)).rejects.toThrow(/^OOM /);
        expect(recomputes).toBe(0);
      });
    });

    describe("a read-only replica", () => {
      let replica: RedisServer;
      beforeEach(async () => {
        replica = await startRedis({ args: ["--replicaof", server.host, String(server.port)] });
        const link = openClient({}, replica);
        await until("it follows", async () => (await link.info("replication")).includes("master_link_status:up"));
      });
      afterEach(() => replica.stop());

      it("serves hits, and everything else from the source, one recompute at a time", async () => {
        await fenceOver(observer).set("key", 60, "replicated");
        const cache = fenceOver(openClient({}, replica));
        await until("it has the key", async () => (await cache.getOrSet("key", 60, () => "source")) === "replicated");
        let running = 0;
        let most = 0;
        const recompute = async () => {
          most = Math.max(most, ++running);
          await sleep(20);
          running--;
          return "source";
        };
        const calls = Array.from({ length: 20 }, () => cache.getOrSet("other", 60, recompute));
        expect(new Set(await Promise.all(calls))).toEqual(new Set(["source"]));
        expect(most).toBe(1);
        await expect(cache.invalidate("key")).rejects.toThrow(/^READONLY /);
        await expect(cache.set("key", 60, 1)).rejects.toThrow(/^READONLY /);
      });

      it("rejects with the Redis error under `throw`", async () => {
        const client = openClient({}, replica);
        await client.ping();
        const cache = fenceOver(client, { onRedisError: "throw" });
        for (const act of [
          () => cache.getOrSet("other", 60, () => 1),
          () => cache.set("other", 60, 1),
          () => cache.invalidate("other"),
        ]) {
          const { error } = await ended<unknown>(act());
          expect(error?.message).toMatch(/^READONLY /);
          expect(error).not.toBeInstanceOf(RedisFault); // That one stays inside.
        }
      });
    });

    describe("wake-ups", () => {
      it("come by push, long before the safety poll of once a second", async () => {
        const [{ cache }, { cache: other }] = [await openFence(), await openFence()];
        const delays: number[] = [];
        for (let round = 0; round < 5; round++) {
          const rebuild = await startRebuild(other, `key ${round}`);
          const waiting = ended(cache.getOrSet(`key ${round}`, 60, () => "source"));
          const waitedFor = `${namespace}key ${round}`;
          await until("it listens", async () => (await waitersOf(observer, waitedFor)) === 1);
          await sleep(100);
          const finishedMs = performance.now();
          rebuild.finish();
          expect((await waiting).value).toBe("value");
          delays.push(performance.now() - finishedMs);
        }
        // The median, for a noisy machine may be late once or twice.
        expect(delays.sort((a, b) => a - b)[2]).toBeLessThan(250);
      });

      it("go on by polling when the subscriber is killed, and by push when it is back", async () => {
        const { cache } = await openFence({}, { connectionName: "waiter" });
        const { cache: other } = await openFence();
        const subscribers = async () =>
          ((await observer.client("LIST", "TYPE", "PUBSUB")) as string).trim().split("\n");
        for (let round = 0; round < 3; round++) {
          const rebuild = await startRebuild(other, `key ${round}`);
          const waiting = cache.getOrSet(`key ${round}`, 60, () => "source");
          const waitedFor = `${namespace}key ${round}`;
          await until("it listens", async () => (await waitersOf(observer, waitedFor)) === 1);
          await until("both listen", async () => (await subscribers()).length === 2);
          // Not the holder's: who has lost that for two looks is taken for dead.
          const [, id] = /id=(\d+)/.exec((await subscribers()).find((line) => line.includes(" name=waiter "))!)!;
          await observer.client("KILL", "ID", id!);
          if (round === 1) await until("both listen again", async () => (await subscribers()).length === 2);
          rebuild.finish();
          expect(await waiting).toBe("value");
        }
        expect(cache.stats()).toMatchObject({ takeovers: 0, redisErrors: 0, rebuilds: 1 });
      }, 60_000);

      it("of a Python holder, which publishes nothing, come by fast polling", async () => {
        const { cache } = await openFence({ waitForLock: 30 });
        const token = "0123456789abcdef0123456789abcdef";
        await observer.set(`${namespace}key:lock`, token, "PX", 60_000);
        const waiting = ended(cache.getOrSet("key", 60, () => "source"));
        await until("it listens", async () => (await waitersOf(observer, `${namespace}key`)) === 1);
        await sleep(300);
        const calls = async () => Number(/cmdstat_pttl:calls=(\d+)/.exec(await observer.info("commandstats"))?.[1]);
        const before = await calls();
        await until("it has polled", async () => (await calls()) >= before + 8, 5_000);
        const expiry = String(Date.now() / 1000 + 60);
        await observer
          .multi()
          .hset(`${namespace}key`, { v: '"python"', delta: "0.1", expiry })
          .del(`${namespace}key:lock`)
          .exec();
        expect((await waiting).value).toBe("python");
        expect(cache.stats()).toMatchObject({ takeovers: 0, rebuilds: 1 });
      });

      it("and their subscriber do not keep the process alive once the application's own client is closed", async () => {
        await observer.set(`${namespace}key:lock`, `cachefence:N${"0".repeat(16)}-${"0".repeat(12)}`, "PX", 60_000);
        const fixture = fileURLToPath(new URL("../support/exits-by-itself.ts", import.meta.url));
        const child = spawn(
          process.execPath,
          ["--import", "tsx", fixture, major.name, String(server.port), namespace],
          {
            stdio: ["ignore", "pipe", "inherit"],
          },
        );
        let output = "";
        child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
        const exitCode = await new Promise((resolve) => child.once("exit", resolve));
        expect(output.trim()).toBe("1 subscriber, then the value of source");
        expect(exitCode).toBe(0);
      });
    });
  });
});
