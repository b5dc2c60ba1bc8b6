import { CacheFence, type CacheFenceOptions } from "cachefence";
import type { Cluster, ClusterOptions } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { systemRuntime } from "../../src/runtime.js";
import { deferred } from "../support/deferred.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { type RedisCluster, startRedisCluster } from "../support/redis-cluster.js";
import { ended, until } from "../support/waiting.js";

// No test lasts as long as this lease: a lock that is gone was freed by somebody.
const lockTimeout = 60;

describeOwnRedis("a Redis Cluster of three masters", () => {
  let servers: RedisCluster;
  beforeAll(async () => {
    servers = await startRedisCluster();
  });
  afterAll(() => servers.stop());

  describe.each(majors)("ioredis $name", (major) => {
    let namespace: string;
    let observer: Cluster;
    const clients: Cluster[] = [];
    const caches: CacheFence[] = [];

    beforeEach(() => {
      namespace = uniquePrefix();
      observer = openClient();
    });
    afterEach(async () => {
      for (const cache of caches.splice(0)) await cache.close();
      for (const client of clients.splice(0)) client.disconnect();
    });

    function openClient(options: ClusterOptions = {}): Cluster {
      const client = new major.Cluster(servers.nodes, options);
      client.on("error", () => undefined);
      clients.push(client);
      return client;
    }

    function openFence(options: CacheFenceOptions = {}, clientOptions: ClusterOptions = {}): CacheFence {
      const cache = new CacheFence(openClient(clientOptions), {
        namespace,
        lockTimeout,
        beta: 0,
        redisTimeout: 20,
        ...options,
      });
      caches.push(cache);
      return cache;
    }

    /** Every key of this test on any master. */
    async function storedKeys(): Promise<string[]> {
      const found = await Promise.all(observer.nodes("master").map((node) => node.keys(`*${namespace}*`)));
      return found.flat().sort();
    }
    const isReady = () => until("the observer is ready", () => observer.status === "ready");

    const keys = Array.from({ length: 24 }, (_, number) => `key-${number}`);

    it("rebuilds each key once, whatever its slot, for callers in several processes", async () => {
      await isReady();
      const fences = [openFence(), openFence(), openFence()];
      const recomputes = new Map<string, number>();
      const values = await Promise.all(
        fences.flatMap((cache) =>
          keys.map((key) =>
            cache.getOrSet(key, 60, async () => {
              recomputes.set(key, (recomputes.get(key) ?? 0) + 1);
              return key;
            }),
          ),
        ),
      );
      expect(values).toEqual([...keys, ...keys, ...keys]);
      expect([...recomputes.values()]).toEqual(keys.map(() => 1));
      const holders = new Set(await Promise.all(keys.map((key) => observer.cluster("KEYSLOT", namespace + key))));
      expect(new Set([...holders].map((slot) => servers.masterOf(slot).port)).size).toBe(3);
      expect(await storedKeys()).toEqual(keys.map((key) => namespace + key).sort());
    });

    it("removes keys of many slots by one invalidate", async () => {
      await isReady();
      const cache = openFence();
      for (const key of keys) await cache.set(key, 60, "old");
      await cache.invalidate(...keys);
      expect(await storedKeys()).toEqual([]);
      expect(await cache.getOrSet(keys[0]!, 60, () => "new")).toBe("new");
    });

    it("refuses the store of a rebuild that an invalidate has fenced off", async () => {
      const cache = openFence();
      const other = openFence();
      const first = await cache.getOrSet("key", 60, async () => {
        await other.invalidate("key");
        return "old";
      });
      expect(first).toBe("old");
      expect(cache.stats().refusedStores).toBe(1);
      expect(await other.getOrSet("key", 60, () => "new")).toBe("new");
    });

    it("takes a rebuild over from a holder that is gone, one of all waiters", async () => {
      await isReady();
      await observer.set(`{${namespace}key}:lock`, `cachefence:N${"0".repeat(16)}-${"0".repeat(12)}`, "PX", 60_000);
      let recomputes = 0;
      const fences = [1, 2, 3, 4].map(() => openFence({ waitForLock: 2 }));
      await until("they are ready", () => clients.every(({ status }) => status === "ready"));
      const values = await Promise.all(fences.map((cache) => cache.getOrSet("key", 60, () => ++recomputes)));
      expect(values).toEqual([1, 1, 1, 1]);
      expect(fences.reduce((sum, cache) => sum + cache.stats().takeovers, 0)).toBe(1);
      expect(await storedKeys()).toEqual([`${namespace}key`]);
    });

    it("frees the lock of a failed recompute", async () => {
      await isReady();
      const failure = new Error("source down");
      const cache = openFence();
      await expect(cache.getOrSet("key", 60, () => Promise.reject(failure))).rejects.toMatchObject({ cause: failure });
      await until("the lock is free", async () => (await storedKeys()).length === 0);
    });

    describe.each([
      ["no prefix", {}],
      ["a key prefix", { keyPrefix: "prefix:" }],
      ["a key prefix among the options of its nodes", { redisOptions: { keyPrefix: "prefix:" } }],
      ["a key prefix with a hash tag", { keyPrefix: "{prefix}:" }],
      ["a key prefix with an open brace", { keyPrefix: "pre{fix" }],
      ["a key prefix with an empty tag", { keyPrefix: "{}:" }],
    ] satisfies [string, ClusterOptions][])("with %s", (_, clientOptions) => {
      it.each(["plain", "{tag}rest", "{}x", "odd}key", "{open", "a{b}c:{d}", "}{", "{{x}}", "ключ", "\u0000 \r\n"])(
        "keeps the lock of %j in the slot of its entry",
        async (key) => {
          await isReady();
          const cache = openFence({}, clientOptions);
          const started = deferred();
          const finish = deferred();
          const call = cache.getOrSet(key, 60, async () => {
            started.resolve();
            await finish.promise;
            return "value";
          });
          await started.promise;
          const [lock, ...others] = await storedKeys();
          expect(others).toEqual([]);
          finish.resolve();
          expect(await call).toBe("value");
          const [entry, ...rest] = await storedKeys();
          expect(rest).toEqual([]);
          expect(entry).toContain(`${namespace}${key}`);
          expect(await observer.cluster("KEYSLOT", lock!)).toBe(await observer.cluster("KEYSLOT", entry!));
          await cache.invalidate(key);
          expect(await storedKeys()).toEqual([]);
        },
      );
    });

    it.each(["slave", "all", () => null])("refuses a client that reads elsewhere than on masters: %s", (scaleReads) => {
      const client = openClient({ scaleReads: scaleReads as never });
      expect(() => new CacheFence(client)).toThrow(/^Expected `redis\.options\.scaleReads` to be "master", got /);
    });

    it("judges by Redis' clock from the first call of a process on, on a host whose own is an hour off", async () => {
      await isReady();
      const writer = openFence();
      for (const key of keys) await writer.set(key, 60, "cached");
      const client = openClient();
      await until("it is ready", () => client.status === "ready");
      const time = client.time.bind(client);
      const runtime = { ...systemRuntime, wallClockMs: () => Date.now() + 3_600_000 };
      for (const key of keys) {
        // TIME goes to any master: here its reply always comes after that of the read, which was sent to the key's own.
        const late = async () => {
          const reply = await time();
          await client.get(namespace + key).catch(() => undefined);
          return reply;
        };
        Object.assign(client, { time: late });
        const cold = new CacheFence(client, { namespace, lockTimeout, beta: 0 }, runtime);
        caches.push(cold);
        expect(await cold.getOrSet(key, 60, () => "source")).toBe("cached");
        expect(cold.stats()).toMatchObject({ hits: 1, redisErrors: 0 });
      }
    });

    it("works without scripting", async () => {
      for (const node of (await isReady(), observer.nodes("master"))) {
        await node.call("ACL", "SETUSER", "no-scripting", "on", ">password", "~*", "&*", "+@all", "-@scripting");
        // Nobody else may do what the fallback does: its connection has the credentials of the client.
        await node.call("ACL", "SETUSER", "default", "-watch");
      }
      const options: ClusterOptions = { redisOptions: { username: "no-scripting", password: "password" } };
      const cache = openFence({}, options);
      const other = openFence({}, options);
      let recomputes = 0;
      for (const key of keys) await cache.getOrSet(key, 60, () => ++recomputes);
      for (const key of keys) await other.getOrSet(key, 60, () => ++recomputes);
      expect(recomputes).toBe(keys.length);
      const fenced = await cache.getOrSet("key", 60, async () => {
        await other.invalidate("key");
        return "old";
      });
      expect(fenced).toBe("old");
      await other.invalidate(...keys);
      expect(await storedKeys()).toEqual([]);
      expect([cache, other].map((one) => one.stats().redisErrors)).toEqual([0, 0]);
      for (const node of observer.nodes("master")) await node.call("ACL", "SETUSER", "default", "+watch");
    });

    it("gives every caller a value while a master is silent, and leaves no lock behind", async () => {
      await isReady();
      const [cache, writer] = [openFence({ redisTimeout: 0.5 }), openFence()];
      for (const key of keys) await writer.set(key, 60, "cached");
      await until("it reads", async () => (await cache.peek(keys[0]!)) !== undefined);
      const started = deferred();
      const finish = deferred();
      const rebuild = cache.getOrSet("key", 60, async () => {
        started.resolve();
        await finish.promise;
        return "value";
      });
      await started.promise;
      const slot = await observer.cluster("KEYSLOT", `${namespace}key`);
      const master = servers.masterOf(slot);
      master.process.kill("SIGSTOP");
      finish.resolve();
      const values = await Promise.all(keys.map((key) => ended(cache.getOrSet(key, 60, () => "source"))));
      const rebuilt = await rebuild;
      master.process.kill("SIGCONT");
      for (const { value } of values) expect(["cached", "source"]).toContain(value);
      expect(rebuilt).toBe("value");
      await until("the lock is free", async () => !(await storedKeys()).some((key) => key.endsWith(":lock")));
      await until("hits are served again", async () => {
        const again = await Promise.all(keys.map((key) => cache.getOrSet(key, 60, () => "source")));
        return again.every((value) => value === "cached");
      });
    });
  });
});
