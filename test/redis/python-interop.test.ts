import { eventually } from "../support/eventually.js";
import { waitersOf } from "../support/audience.js";
import { randomBytes } from "node:crypto";
import { CacheFence } from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { systemRuntime } from "../../src/runtime.js";
import { deferred } from "../support/deferred.js";
import { describeRedis, removeKeys, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";

// Python's compare-and-delete, byte for byte.
const RELEASE = `if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) else return 0 end`;

for (const major of majors) {
  describeRedis(`Python cachefence 0.1.0 on the same keys, ioredis ${major.name}`, (url) => {
    const prefix = uniquePrefix();
    let redis: Redis;
    /** Sends what the Python package sends. */
    let python: Redis;
    let entryKey: string;
    let lockKey: string;
    let tests = 0;
    let cache: CacheFence;

    beforeAll(() => {
      redis = new major.Redis(url);
      python = new major.Redis(url);
    });
    beforeEach(() => {
      const namespace = `${prefix}${++tests}:`;
      entryKey = `${namespace}k`;
      lockKey = `${entryKey}:lock`;
      cache = new CacheFence(redis, { namespace }, { ...systemRuntime, random: () => 1 });
    });
    afterAll(async () => {
      await removeKeys(python, prefix);
      redis.disconnect();
      python.disconnect();
    });

    async function serverSeconds(): Promise<number> {
      const [seconds, microseconds] = (await python.time()).map(Number);
      return seconds! + microseconds! / 1e6;
    }

    async function pythonStores(value: string, ttl: number, delta = "0.0512345"): Promise<void> {
      const expiry = ((await serverSeconds()) + ttl).toFixed(7);
      await python
        .pipeline()
        .hset(entryKey, "v", value, "delta", delta, "expiry", expiry)
        .pexpire(entryKey, ttl * 1000)
        .exec();
    }

    const pythonClaims = (token: string) => python.call("SET", lockKey, token, "NX", "PX", "10000");
    const pythonReleases = (token: string) => python.eval(RELEASE, 1, lockKey, token);

    it("reads what Python has stored", async () => {
      await pythonStores('{"name": "\\u00c4nne", "tags": [1, 2.5, null, true]}', 60);
      const recompute = vi.fn();
      expect(await cache.getOrSet("k", 60, recompute)).toEqual({ name: "Änne", tags: [1, 2.5, null, true] });
      expect(recompute).not.toHaveBeenCalled();
    });

    it("refreshes what Python has stored by the delta that Python measured", async () => {
      await pythonStores('"old"', 60, "100.5");
      const namespace = entryKey.slice(0, -1);
      const eager = new CacheFence(redis, { namespace }, { ...systemRuntime, random: () => Math.exp(-1) });
      expect(await eager.getOrSet("k", 60, () => "new")).toBe("new");
    });

    it("stores what Python reads: the three fields, as JSON and as decimal numbers, and the key's own ttl", async () => {
      await cache.getOrSet("k", 30, () => ({ a: [1, null] }));
      const fields = await python.hgetall(entryKey);
      expect(Object.keys(fields).sort()).toEqual(["delta", "expiry", "v"]);
      expect(JSON.parse(fields.v!)).toEqual({ a: [1, null] });
      for (const number of [fields.delta!, fields.expiry!]) expect(number).toMatch(/^\d+(\.\d+)?(e-?\d+)?$/);
      expect(Math.abs(Number(fields.expiry) - (await serverSeconds()) - 30)).toBeLessThan(20);
      const pttl = await python.pttl(entryKey);
      expect(pttl).toBeGreaterThan(10_000);
      expect(pttl).toBeLessThanOrEqual(30_000);
    });

    it("holds a lock that Python cannot claim or release, and leaves one that it can", async () => {
      const gate = deferred();
      const call = cache.getOrSet("k", 60, () => gate.promise);
      await eventually(() => expect(cache.stats().rebuilds).toBe(1));
      const token = randomBytes(16).toString("hex");
      expect(await pythonClaims(token)).toBeNull();
      expect(await pythonReleases(token)).toBe(0);
      expect(await python.type(lockKey)).toBe("string");
      const lease = await python.pttl(lockKey);
      expect(lease).toBeGreaterThan(0);
      expect(lease).toBeLessThanOrEqual(10_000);
      gate.resolve();
      await call;
      expect(await pythonClaims(token)).toBe("OK");
      expect(await pythonReleases(token)).toBe(1);
    });

    it("waits for a Python holder, who publishes nothing, and takes its value", async () => {
      const token = randomBytes(16).toString("hex");
      expect(await pythonClaims(token)).toBe("OK");
      const recompute = vi.fn();
      const calls = Array.from({ length: 10 }, () => cache.getOrSet("k", 60, recompute));
      await eventually(() => expect(cache.stats().coalesced).toBe(9));
      await expect.poll(() => waitersOf(python, entryKey)).toBe(1);
      await pythonStores('"from Python"', 60);
      expect(await pythonReleases(token)).toBe(1);
      expect(await Promise.all(calls)).toEqual(Array(10).fill("from Python"));
      expect(recompute).not.toHaveBeenCalled();
      expect(cache.stats()).toMatchObject({ waits: 1, takeovers: 0 });
      await cache.close();
    });

    it("claims the lock that a failed Python holder has freed without a value", async () => {
      const token = randomBytes(16).toString("hex");
      await pythonClaims(token);
      const call = cache.getOrSet("k", 60, () => "ours");
      await expect.poll(() => waitersOf(python, entryKey)).toBe(1);
      await pythonReleases(token);
      expect(await call).toBe("ours");
      await cache.close();
    });

    it("keeps the valid value while Python refreshes it", async () => {
      await pythonStores('"old"', 60, "100");
      await pythonClaims("00ff");
      const namespace = entryKey.slice(0, -1);
      const eager = new CacheFence(redis, { namespace }, { ...systemRuntime, random: () => Number.MIN_VALUE });
      const recompute = vi.fn();
      expect(await eager.getOrSet("k", 60, recompute)).toBe("old");
      expect(recompute).not.toHaveBeenCalled();
      expect(await python.get(lockKey)).toBe("00ff");
    });

    it("takes over from a Python holder that hangs; the late release of that one does no harm", async () => {
      await pythonClaims("00ff");
      const gate = deferred();
      const patient = new CacheFence(redis, { namespace: entryKey.slice(0, -1), waitForLock: 0.1 });
      const call = patient.getOrSet("k", 60, async () => {
        await gate.promise;
        return "ours";
      });
      await eventually(() => expect(patient.stats().rebuilds).toBe(1));
      expect(await pythonReleases("00ff")).toBe(0);
      expect(await python.get(lockKey)).toMatch(/:[LN][0-9a-f]{16}-[0-9a-f]{12}$/);
      gate.resolve();
      expect(await call).toBe("ours");
      expect(await python.exists(lockKey)).toBe(0);
      await patient.close();
    });

    it("counts an entry that Python pickled as a miss", async () => {
      await pythonStores("\x80\x04K\x01.", 60);
      expect(await cache.getOrSet("k", 60, () => "ours")).toBe("ours");
    });
  });
}
