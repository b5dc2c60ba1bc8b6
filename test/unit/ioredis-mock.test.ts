import { CacheFence, CacheFenceError, RecomputeError } from "cachefence";
import RedisMock from "ioredis-mock";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { systemRuntime } from "../../src/runtime.js";
import { eventually } from "../support/eventually.js";
import { deferred } from "../support/deferred.js";

// Clients of one host, port and db share their data, as if they spoke to one server.
let port = 20_000;
const connect = () => new RedisMock({ host: "cachefence", port });

beforeEach(() => {
  port++;
});

describe("CacheFence on ioredis-mock", () => {
  it("recomputes once for all callers of a cold key, and hits from then on", async () => {
    const cache = new CacheFence(connect(), { beta: 0 });
    const recompute = vi.fn(async () => ({ list: [1] }));
    const values = await Promise.all(Array.from({ length: 50 }, () => cache.getOrSet("k", 60, recompute)));
    expect(values).toEqual(Array(50).fill({ list: [1] }));
    expect(new Set(values).size).toBe(50);
    expect(await cache.getOrSet("k", 60, recompute)).toEqual({ list: [1] });
    expect(recompute).toHaveBeenCalledTimes(1);
    expect(cache.stats()).toMatchObject({ coalesced: 49, rebuilds: 1 });
  });

  it("writes what it writes to Redis, and frees the lock", async () => {
    const client = connect();
    await new CacheFence(client, { namespace: "app:" }).getOrSet("k", 60, () => "ünï");
    expect(await client.hgetBuffer("app:k", "v")).toEqual(Buffer.from('"ünï"'));
    expect(await client.pttl("app:k")).toBeGreaterThan(50_000);
    expect(await client.exists("app:k:lock")).toBe(0);
  });

  it.each([null, undefined, 0, "", { deep: [null] }])("gives %o back on the miss and on the hit", async (value) => {
    const cache = new CacheFence(connect(), { beta: 0 });
    expect(await cache.getOrSet("k", 60, () => value)).toEqual(value);
    expect(await cache.getOrSet("k", 60, () => "recomputed" as never)).toEqual(value);
  });

  it("shares one rebuild between two clients, the second woken by the first", async () => {
    const [holder, waiter] = [new CacheFence(connect()), new CacheFence(connect())];
    const gate = deferred();
    const first = holder.getOrSet("k", 60, () => gate.promise.then(() => "value"));
    await eventually(() => expect(holder.stats().rebuilds).toBe(1));
    const recompute = vi.fn();
    const second = waiter.getOrSet("k", 60, recompute);
    gate.resolve();
    expect(await Promise.all([first, second])).toEqual(["value", "value"]);
    expect(recompute).not.toHaveBeenCalled();
    await Promise.all([holder.close(), waiter.close()]);
  });

  it("refreshes early", async () => {
    const client = connect();
    await client.hset("k", { v: '"old"', delta: "1", expiry: String(Date.now() / 1000 + 60) });
    const eager = new CacheFence(client, {}, { ...systemRuntime, random: () => Number.MIN_VALUE });
    expect(await eager.getOrSet("k", 60, () => "new")).toBe("new");
  });

  it("invalidates, sets, and refuses the store of a rebuild that either has fenced off", async () => {
    const cache = new CacheFence(connect(), { beta: 0 });
    for (const fence of [() => cache.invalidate("k"), () => cache.set("k", 60, "set")]) {
      const gate = deferred();
      const before = cache.stats();
      const call = cache.getOrSet("k", 60, () => gate.promise.then(() => "before"));
      await eventually(() => expect(cache.stats().rebuilds).toBe(before.rebuilds + 1));
      await fence();
      gate.resolve();
      expect(await call).toBe("before");
      expect(cache.stats().refusedStores).toBe(before.refusedStores + 1);
    }
    expect(await cache.getOrSet("k", 60, () => "recomputed")).toBe("set");
  });

  it("reads anew right after another client's invalidate, and right after a rebuild, though no tick has passed", async () => {
    const [cache, other] = [new CacheFence(connect(), { beta: 0 }), new CacheFence(connect(), { beta: 0 })];
    await cache.set("k", 60, "old");
    await new Promise((resolve) => setImmediate(resolve));
    expect(await cache.getOrSet("k", 60, () => "new")).toBe("old");
    await other.invalidate("k");
    expect(await cache.getOrSet("k", 60, () => "new")).toBe("new");
    expect(await cache.getOrSet("k", 60, () => "newer")).toBe("new");
    expect(cache.stats()).toMatchObject({ hits: 2, misses: 1 });
  });

  it("frees the lock when recompute fails", async () => {
    const cache = new CacheFence(connect());
    const failing = cache.getOrSet("k", 60, () => Promise.reject(new Error("down")));
    await expect(failing).rejects.toThrow(RecomputeError);
    expect(await cache.getOrSet("k", 60, () => "next")).toBe("next");
    expect(cache.stats().waits).toBe(0);
  });

  it("takes over from a holder that is gone", async () => {
    const client = connect();
    await client.set("k:lock", "somebody's", "PX", 60_000);
    const cache = new CacheFence(client, { waitForLock: 0.05 });
    expect(await cache.getOrSet("k", 60, () => "mine")).toBe("mine");
    expect(await client.exists("k:lock")).toBe(0);
    await cache.close();
  });

  it("leaves a hash without `v` and a string without a lease alone", async () => {
    const client = connect();
    await client.hset("k", "field", "theirs");
    await client.set("l:lock", "theirs");
    const cache = new CacheFence(client);
    for (const key of ["k", "l"]) {
      await expect(cache.getOrSet(key, 60, () => 1)).rejects.toThrow(CacheFenceError);
      await expect(cache.set(key, 60, 1)).rejects.toThrow(CacheFenceError);
      await expect(cache.invalidate(key)).rejects.toThrow(CacheFenceError);
    }
    expect(await client.hgetall("k")).toEqual({ field: "theirs" });
    expect(await client.get("l:lock")).toBe("theirs");
    await cache.close();
  });
});
