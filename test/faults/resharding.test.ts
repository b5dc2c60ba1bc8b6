import { setTimeout as sleep } from "node:timers/promises";
import { CacheFence } from "cachefence";
import { type Cluster, Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { type RedisCluster, startRedisCluster } from "../support/redis-cluster.js";
import { until } from "../support/waiting.js";

// No test lasts as long as this lease: a lock that is gone was freed by somebody.
const lockTimeout = 60;
const fencedKeys = ["fenced-1", "fenced-2", "fenced-3"];
const calmKeys = ["calm-1", "calm-2", "calm-3"];
const items = [1, 2, 3];
const tag = "group";
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describeOwnRedis("a Cluster whose slots move under load", () => {
  let servers: RedisCluster;
  beforeAll(async () => {
    servers = await startRedisCluster();
  });
  afterAll(() => servers.stop());

  describe.each(majors)("ioredis $name", (major) => {
    let namespace: string;
    let admins: Redis[];
    const clients: Cluster[] = [];
    const caches: CacheFence[] = [];

    beforeEach(async () => {
      namespace = uniquePrefix();
      admins = servers.masters.map(({ url }) => new Redis(url));
      for (let count = 0; count < 3; count++) {
        const client = new major.Cluster(servers.nodes);
        client.on("error", () => undefined);
        clients.push(client);
        const options = { namespace, lockTimeout, beta: 0, redisTimeout: 10, memory: new Map(), memoryLease: 0.5 };
        caches.push(new CacheFence(client, options));
      }
      await until("all are ready", () => clients.every(({ status }) => status === "ready"));
    });
    afterEach(() => {
      caches.length = 0;
      for (const one of [...clients.splice(0), ...admins]) one.disconnect();
    });

    const slotOf = (key: string) => clients[0]!.cluster("KEYSLOT", namespace + key);
    const redirects = async () => {
      const stats = await Promise.all(admins.map((admin) => admin.info("errorstats")));
      const countOf = (kind: string) =>
        stats.reduce((sum, text) => sum + Number(new RegExp(`errorstat_${kind}:count=(\\d+)`).exec(text)?.[1] ?? 0), 0);
      return { moved: countOf("MOVED"), asked: countOf("ASK") };
    };

    it("serves no stale value, rebuilds once, keeps nobody waiting, and is left without a lock", async () => {
      const failures: unknown[] = [];
      const fail = (what: string) => (error: unknown) => void failures.push([what, String(error)]);
      // Of each key, of the tag's group and of the list: what the source has, and which version a resolved fence made known.
      const source = new Map<string, number>();
      const known = new Map<string, number>();
      const versionIn = (map: Map<string, number>, key: string) => map.get(key) ?? 0;
      const done = { reads: 0, fences: 0, isOver: false };

      /** Reads, and compares with what was known in an earlier turn of the event loop. */
      const check = async (key: string, read: () => Promise<number>) => {
        await turn();
        const atLeast = versionIn(known, key);
        const value = await read();
        done.reads++;
        if (value < atLeast) failures.push(["stale", key, value, atLeast]);
      };
      const recompute = (key: string) => async () => {
        const version = versionIn(source, key);
        await sleep(2);
        return version;
      };
      const readers = caches.map(async (cache, index) => {
        for (let round = index; !done.isOver; round++) {
          const key = fencedKeys[round % fencedKeys.length]!;
          await check(key, () => cache.getOrSet(key, 60, recompute(key))).catch(fail("read"));
          const tagged = () => cache.getOrSet("tagged", 60, recompute(tag), { tags: [tag] });
          await check(tag, tagged).catch(fail("tagged"));
          const list = async () => {
            const found = await cache.getOrSetMany(
              items,
              (item) => `item-${item}`,
              60,
              async (missing) => {
                const version = versionIn(source, "items");
                await sleep(2);
                return missing.map(() => version);
              },
            );
            return Math.min(...found.values());
          };
          await check("items", list).catch(fail("list"));
        }
      });
      const fence = async (key: string, raise: (cache: CacheFence) => Promise<void>, cache: CacheFence) => {
        const version = versionIn(source, key) + 1;
        source.set(key, version);
        await raise(cache);
        known.set(key, version);
        done.fences++;
      };
      const fencer = (async () => {
        for (let round = 0; !done.isOver; round++) {
          const cache = caches[round % caches.length]!;
          const key = fencedKeys[round % fencedKeys.length]!;
          await fence(key, (by) => by.invalidate(key), cache).catch(fail("invalidate"));
          await fence(tag, (by) => by.invalidateTags(tag), cache).catch(fail("invalidateTags"));
          await fence("items", (by) => by.invalidate(items.map((item) => `item-${item}`)), cache).catch(
            fail("list fence"),
          );
          await sleep(5);
        }
      })();
      // Keys that nobody fences, and that expire all the time: at any moment one rebuild of each.
      const running = new Map<string, number>();
      let most = 0;
      const calm = caches.map(async (cache) => {
        while (!done.isOver) {
          const rebuild = async (key: string) => {
            running.set(key, versionIn(running, key) + 1);
            most = Math.max(most, versionIn(running, key));
            await sleep(2);
            running.set(key, versionIn(running, key) - 1);
            return key;
          };
          await Promise.all(calmKeys.map((key) => cache.getOrSet(key, 0.05, () => rebuild(key)))).catch(fail("calm"));
        }
      });

      const names = [...fencedKeys, ...calmKeys, "tagged", `${tag}:tag`, ...items.map((item) => `item-${item}`)];
      const slots = await Promise.all(names.map(slotOf));
      const before = await redirects();
      const loads = [...readers, fencer, ...calm];
      // Each slot goes once around the Cluster.
      for (const _ of servers.masters) {
        const { reads, fences } = done;
        for (const slot of slots) await servers.moveSlot(slot);
        await until("the load has gone on", () => done.reads > reads + 10 && done.fences > fences + 2);
      }
      done.isOver = true;
      await Promise.all(loads);

      expect(failures).toEqual([]);
      expect(most).toBe(1);
      const { moved, asked } = await redirects();
      expect(moved).toBeGreaterThan(before.moved);
      expect(asked).toBeGreaterThan(before.asked);
      await until("no lock is left", async () => {
        const found = await Promise.all(admins.map((admin) => admin.keys(`*${namespace}*:lock`)));
        return found.flat().length === 0;
      });
      const after = await Promise.all(caches.map((cache) => cache.getOrSet(fencedKeys[0]!, 60, () => -1)));
      expect(new Set(after).size).toBe(1);
    }, 60_000);
  });
});
