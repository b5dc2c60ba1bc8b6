import { runInNewContext } from "node:vm";
import { CacheFence, RecomputeError, RecomputeTimeoutError } from "cachefence";
import type { Redis } from "ioredis";
import type { Mock } from "vitest";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { waitersOf } from "../support/audience.js";
import { deferred } from "../support/deferred.js";
import { describeRedis, removeKeys, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { until } from "../support/waiting.js";

const keyOf = (id: number): string => `p:${id}`;
const range = (count: number): number[] => Array.from({ length: count }, (_, id) => id);

for (const major of majors) {
  describeRedis(`lists and definitions, ioredis ${major.name}`, (url) => {
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
    const connect = (): Redis => {
      const client = new major.Redis(url);
      clients.push(client);
      return client;
    };
    const open = (client = connect()) =>
      new CacheFence(client, { namespace, redisTimeout: 20, waitForLock: 60, beta: 0 });
    const many = (): Mock<(ids: number[]) => Map<number, { id: number | string }>> =>
      vi.fn((ids: number[]) => new Map(ids.map((id) => [id, { id }])));

    describe("getOrSetMany", () => {
      it("asks once for all that is missing, and not at all for what is there; in the order of the items, each once", async () => {
        const cache = open();
        await cache.set("p:2", 60, { id: "stored" });
        const recompute = many();
        const found = await cache.getOrSetMany([3, 1, 2, 3, 1], keyOf, 60, recompute);
        expect([...found]).toEqual([
          [3, { id: 3 }],
          [1, { id: 1 }],
          [2, { id: "stored" }],
        ]);
        expect(recompute.mock.calls.map(([ids]) => ids)).toEqual([[3, 1]]);
        const again = await cache.getOrSetMany([1, 2, 3], keyOf, 60, recompute);
        expect([...again.keys()]).toEqual([1, 2, 3]);
        expect(recompute).toHaveBeenCalledTimes(1);
      });

      it("writes to the socket once for the reads, once for the claims and once for the stores", async () => {
        const client = connect();
        const cache = open(client);
        await cache.getOrSet("warm", 60, () => 1);
        let writes = 0;
        const { stream } = client as unknown as { stream: Record<string, (...args: unknown[]) => unknown> };
        for (const name of ["_write", "_writev"]) {
          const real = stream[name]!.bind(stream);
          stream[name] = (...args) => {
            writes++;
            return real(...args);
          };
        }
        await cache.getOrSetMany(range(100), keyOf, 60, many());
        expect(writes).toBeLessThanOrEqual(4); // A large write may be taken by the socket in two.
        writes = 0;
        await cache.getOrSetMany(range(100), keyOf, 60, many());
        expect(writes).toBe(1);
      });

      it("refreshes all that is due in the background with one recompute", async () => {
        const cache = open();
        await Promise.all(range(20).map((id) => cache.set(keyOf(id), 0.001, { id: "old" }, { staleFor: 60 })));
        await until("all are stale", async () => ((await cache.peek("p:19"))?.remaining ?? 1) < 0);
        const recompute = many();
        const options = { earlyRefresh: "background", staleFor: 60 } as const;
        const served = await cache.getOrSetMany(range(22), keyOf, 60, recompute, options);
        expect(served.get(0)).toEqual({ id: "old" });
        expect(served.get(21)).toEqual({ id: 21 });
        await cache.idle();
        expect(recompute.mock.calls).toHaveLength(1);
        expect((await cache.peek("p:0"))?.value).toEqual({ id: 0 });
      });

      it("takes an array in the order of the items, and refuses one of another length", async () => {
        const cache = open();
        expect([...(await cache.getOrSetMany([1, 2], keyOf, 60, (ids) => ids.map((id) => id * 10)))]).toEqual([
          [1, 10],
          [2, 20],
        ]);
        const short = cache.getOrSetMany([3, 4], keyOf, 60, () => [1]);
        await expect(short).rejects.toBeInstanceOf(RecomputeError);
        await expect(short).rejects.toThrow("Expected recompute to return 2 values, one for each item, got 1");
        expect(await raw.exists(`${namespace}p:3:lock`)).toBe(0);
      });

      it("takes an item that is missing from the Map for undefined, which is cached", async () => {
        const cache = open();
        const recompute = vi.fn(() => new Map<number, string>());
        expect(
          (await cache.getOrSetMany<number, string | undefined>([1], keyOf, 60, recompute)).get(1),
        ).toBeUndefined();
        expect((await cache.getOrSetMany<number, string | undefined>([1], keyOf, 60, recompute)).has(1)).toBe(true);
        expect(recompute).toHaveBeenCalledTimes(1);
      });

      it("fails with the error of the first item that failed, and caches what succeeded", async () => {
        const cache = open();
        const cause = new Error("no 2");
        const recompute = vi.fn((ids: number[]) => ids.map((id) => (id === 2 || id === 3 ? cause : id)));
        await expect(cache.getOrSetMany([1, 3, 2], keyOf, 60, recompute)).rejects.toMatchObject({ key: "p:3", cause });
        expect((await cache.getOrSetMany([1], keyOf, 60, recompute)).get(1)).toBe(1);
        expect(recompute).toHaveBeenCalledTimes(1);
      });

      it("takes an Error of another realm for one", async () => {
        const cache = open();
        const foreign = runInNewContext("new Error('no 2')") as Error;
        expect(foreign).not.toBeInstanceOf(Error);
        const failing = cache.getOrSetMany([1, 2], keyOf, 60, () => [1, foreign]);
        await expect(failing).rejects.toMatchObject({ key: "p:2", cause: foreign });
        expect(await cache.peek("p:2")).toBeUndefined();
      });

      it("names each item's key when the recompute takes too long, and aborts it", async () => {
        const cache = open();
        let aborted: unknown;
        const hang = (_: number[], { signal }: { signal: AbortSignal }) => {
          signal.addEventListener("abort", () => (aborted = signal.reason as unknown));
          return new Promise<never>(() => undefined);
        };
        const call = cache.getOrSetMany([1, 2], keyOf, 60, hang, { recomputeTimeout: 0.05 });
        await expect(call).rejects.toBeInstanceOf(RecomputeTimeoutError);
        await expect(call).rejects.toMatchObject({ key: "p:1" });
        expect(aborted).toBeInstanceOf(RecomputeTimeoutError);
      });

      it("tells a call for one that has joined a list of the list's time limit as of its own", async () => {
        const cache = open();
        const asked = deferred();
        const hang = () => {
          asked.resolve();
          return new Promise<never>(() => undefined);
        };
        const list = cache.getOrSetMany([1], keyOf, 60, hang, { recomputeTimeout: 2 });
        list.catch(() => undefined);
        await asked.promise;
        const joined = cache.getOrSet(keyOf(1), 60, () => "not asked");
        await expect(joined).rejects.toBeInstanceOf(RecomputeTimeoutError);
        await expect(joined).rejects.toMatchObject({ key: "p:1", seconds: 2 });
      });

      it("asks the source once for each item of overlapping lists in two processes", async () => {
        const gate = deferred();
        const asked: number[] = [];
        const recompute = async (ids: number[]) => {
          asked.push(...ids);
          await gate.promise;
          return ids.map((id) => ({ id }));
        };
        const first = open().getOrSetMany([1, 2, 3], keyOf, 60, recompute);
        await until("it has asked", () => asked.length === 3);
        const second = open().getOrSetMany([2, 3, 4], keyOf, 60, recompute);
        await until("it has asked for what nobody had", () => asked.length === 4);
        await until("it waits for the rest", async () => (await waitersOf(raw, `${namespace}p:3`)) === 1);
        gate.resolve();
        expect([...(await first).values(), ...(await second).values()].map(({ id }) => id)).toEqual([1, 2, 3, 2, 3, 4]);
        expect(asked).toEqual([1, 2, 3, 4]);
      });

      it("asks later for an item whose holder has failed", async () => {
        const gate = deferred<string>();
        const holder = open();
        const failed = holder.getOrSet("p:1", 60, () => gate.promise).catch((error: unknown) => error);
        await until("it is held", async () => (await raw.exists(`${namespace}p:1:lock`)) === 1);
        const recompute = many();
        const list = open().getOrSetMany([1, 2], keyOf, 60, recompute);
        await until("the other has been asked for", () => recompute.mock.calls.length === 1);
        gate.reject(new Error("down"));
        expect(await failed).toBeInstanceOf(RecomputeError);
        expect((await list).get(1)).toEqual({ id: 1 });
        expect(recompute.mock.calls.map(([ids]) => ids)).toEqual([[2], [1]]);
      });

      it("of nothing is nothing; of 10,000 items it is one question", async () => {
        // Its locks outlast a machine that takes long for so many.
        const cache = new CacheFence(connect(), { namespace, redisTimeout: 60, lockTimeout: 120, beta: 0 });
        const recompute = many();
        expect([...(await cache.getOrSetMany([], keyOf, 60, recompute))]).toEqual([]);
        expect(recompute).not.toHaveBeenCalled();
        const found = await cache.getOrSetMany(range(10_000), keyOf, 60, recompute);
        expect(found.size).toBe(10_000);
        expect(recompute).toHaveBeenCalledTimes(1);
        expect(cache.stats()).toMatchObject({ rebuilds: 10_000, redisErrors: 0, refusedStores: 0 });
      });

      it("takes lifetimes and tags from each item", async () => {
        const cache = open();
        const tags = (id: number) => [`t${id % 2}`];
        await cache.getOrSetMany([1, 2], keyOf, (_, id) => id * 100, many(), { tags });
        expect(await raw.ttl(`${namespace}p:2`)).toBeGreaterThan(150);
        await cache.invalidateTags("t1");
        expect(await cache.peek("p:1", { tags: ["t1"] })).toBeUndefined();
        expect(await cache.peek("p:2", { tags: ["t0"] })).toMatchObject({ value: { id: 2 } });
      });

      it("stops waiting when its signal aborts", async () => {
        const controller = new AbortController();
        const gate = deferred<number[]>();
        const recompute = vi.fn(() => gate.promise);
        const call = open().getOrSetMany([1], keyOf, 60, recompute, { signal: controller.signal });
        await until("it has begun", () => recompute.mock.calls.length === 1);
        controller.abort(new Error("left"));
        await expect(call).rejects.toThrow("left");
        gate.resolve([1]);
        await until("it is stored all the same", async () => (await raw.exists(`${namespace}p:1`)) === 1);
      });

      it("fails for an item of which staleFor cannot be told, and makes what is missing; likewise when its caller has left", async () => {
        const cache = open();
        await cache.set("p:1", 60, null);
        const staleFor = (product: { seconds: number }): number => product.seconds;
        const recompute = vi.fn((ids: number[]) => ids.map((id) => ({ seconds: id })));
        await expect(cache.getOrSetMany([1, 2], keyOf, 60, recompute, { staleFor })).rejects.toThrow(TypeError);
        expect(recompute.mock.calls.map(([ids]) => ids)).toEqual([[2]]);
        expect((await cache.peek("p:2"))?.value).toEqual({ seconds: 2 });
        const left = { staleFor, signal: AbortSignal.abort(new Error("left")) };
        await expect(cache.getOrSetMany([1, 2], keyOf, 60, recompute, left)).rejects.toThrow("left");
      });

      it("calls nobody once its signal has aborted, and who has joined it asks for itself", async () => {
        const client = connect();
        const cache = new CacheFence(client, { namespace });
        // The answer to the second claim takes its time.
        const gate = deferred();
        type Send = (...words: unknown[]) => Promise<unknown>;
        const scripted = client as unknown as Record<"eval" | "evalsha", Send>;
        for (const name of ["eval", "evalsha"] as const) {
          const send = scripted[name].bind(client);
          vi.spyOn(scripted, name).mockImplementation(async (...words) => {
            const reply = await send(...words);
            if (words.includes(`${namespace}p:2:lock`)) await gate.promise;
            return reply;
          });
        }
        const controller = new AbortController();
        const recompute = vi.fn(many());
        const call = cache.getOrSetMany([1, 2], keyOf, 60, recompute, { signal: controller.signal });
        await until(
          "both are claimed",
          async () => (await raw.exists(`${namespace}p:1:lock`, `${namespace}p:2:lock`)) === 2,
        );
        const joined = cache.getOrSet("p:1", 60, () => "its own");
        await until("it has joined", () => cache.stats().coalesced === 1);
        controller.abort(new Error("left"));
        await expect(call).rejects.toThrow("left");
        gate.resolve();
        expect(await joined).toBe("its own");
        await cache.idle();
        expect(recompute).not.toHaveBeenCalled();
        expect(await raw.exists(`${namespace}p:1:lock`, `${namespace}p:2:lock`)).toBe(0);
      });
    });

    describe("a definition", () => {
      it("with a function for many asks for one and for many", async () => {
        const cache = open();
        const recomputeMany = vi.fn(async (ids: number[]) => ids.map((id) => ({ price: id })));
        const products = cache.define({ key: keyOf, recomputeMany, ttl: (product) => product.price, tags: ["all"] });
        expect(await products.get(7)).toEqual({ price: 7 });
        expect([...(await products.getMany([1, 7, 2])).values()]).toEqual([{ price: 1 }, { price: 7 }, { price: 2 }]);
        expect(recomputeMany.mock.calls.map(([ids]) => ids)).toEqual([[7], [1, 2]]);
        expect(await raw.ttl(`${namespace}p:7`)).toBeLessThanOrEqual(7);
        expect(products.key(7)).toBe("p:7");
        await products.set(3, { price: 33 });
        expect((await products.peek(3))?.value).toEqual({ price: 33 });
        await products.invalidate(3, 7);
        expect(await products.peek(7)).toBeUndefined();
        await cache.invalidateTags("all");
        expect(await products.peek(1)).toBeUndefined();
      });

      it("with a function for one calls it once for each that is missing, and fails that alone", async () => {
        const recompute = vi.fn(async (id: number) => {
          if (id === 2) throw new Error("no 2");
          return { id };
        });
        const products = open().define({ ttl: 60, key: keyOf, recompute });
        await expect(products.getMany([1, 2, 3])).rejects.toMatchObject({ key: "p:2" });
        expect(recompute.mock.calls.map(([id]) => id)).toEqual([1, 2, 3]);
        expect((await products.getMany([1, 3])).size).toBe(2);
        expect(recompute).toHaveBeenCalledTimes(3);
      });

      it("with a function for one takes whatever it throws, and whatever it returns, for a list as for one", async () => {
        const cache = open();
        const thrown = { code: 5 };
        const failing = cache.define({
          key: keyOf,
          ttl: 60,
          recompute: () => {
            throw thrown; // eslint-disable-line @typescript-eslint/only-throw-error -- what is tested
          },
        });
        const causes = [failing.get(1), failing.getMany([1])].map((call) =>
          call.catch((error: unknown) => (error as Error).cause),
        );
        for (const cause of await Promise.all(causes)) expect(cause).toBe(thrown);
        const errors = cache.define({ key: keyOf, ttl: 60, recompute: (): unknown => new Error("a value") });
        expect(await errors.get(1)).toEqual({});
        expect((await errors.getMany([2])).get(2)).toEqual({});
      });

      it("is called with a signal, and nothing else", async () => {
        const numbers = open().define({ key: keyOf, ttl: 60, recompute: (id: number) => id });
        const wrong: unknown[] = [{ tags: ["x"] }, { beta: 1 }, { signall: 1 }, 5, null];
        for (const options of wrong as never[]) {
          await expect(numbers.get(1, options)).rejects.toThrow(TypeError);
          await expect(numbers.getMany([1], options)).rejects.toThrow(TypeError);
        }
        expect(await numbers.get(1, { signal: new AbortController().signal })).toBe(1);
      });

      it("takes away what is set where its ttl says that it is not to be cached", async () => {
        const cache = open();
        const ttl = (value: string | null) => (value === null ? 0 : 60);
        const names = cache.define({ key: keyOf, recompute: (): string | null => "made", ttl });
        await names.set(1, "Ada");
        expect((await names.peek(1))?.value).toBe("Ada");
        await names.set(1, null);
        expect(await names.peek(1)).toBeUndefined();
      });

      it("rejects with what its functions throw", async () => {
        const unknown = (): never => {
          throw new TypeError("no such product");
        };
        const products = open().define({ key: unknown, recompute: () => 1, ttl: 60 });
        const calls = [
          () => products.get(1),
          () => products.getMany([1]),
          () => products.set(1, 1),
          () => products.invalidate(1),
          () => products.peek(1),
        ];
        for (const call of calls) await expect(call()).rejects.toThrow("no such product");
      });

      it("is refused where it is none", () => {
        const cache = open();
        const rest = { key: keyOf, ttl: 60 };
        expect(() => cache.define(undefined as never)).toThrow("Expected `definition` to be an object, got undefined");
        expect(() => cache.define({ ...rest } as never)).toThrow("Expected `recompute` or `recomputeMany`");
        expect(() => cache.define({ ...rest, recompute: () => 1, stalefor: 1 } as never)).toThrow("`staleFor`");
        expect(() => cache.define({ ...rest, ttl: "1m", recompute: () => 1 } as never)).toThrow(/number of seconds/);
      });
    });

    describe("what is known of a value", () => {
      it("tells where it was found, and how long it is good", async () => {
        const cache = open();
        const made = await cache.getOrSetEntry("k", 60, () => "value");
        expect(made).toMatchObject({ value: "value", source: "rebuild" });
        expect(made.remaining).toBeGreaterThan(50);
        expect(await cache.getOrSetEntry("k", 60, () => "value")).toMatchObject({ value: "value", source: "redis" });
        const [seconds] = (await raw.time()).map(Number);
        await raw.hset(`${namespace}k`, "expiry", String(seconds! - 5));
        await raw.set(`${namespace}k:lock`, "held", "PX", 60_000);
        const stale = await cache.getOrSetEntry("k", 60, () => "new", { staleFor: 600 });
        expect(stale).toMatchObject({ value: "value", source: "stale" });
        expect(stale.remaining).toBeLessThan(-4);
        expect(await cache.peek("k")).toMatchObject({ value: "value", source: "stale" });
        expect(await cache.peek("nothing")).toBeUndefined();
      });
    });

    describe("a fence of several keys", () => {
      it("takes one iterable of them, 20,000 at that", async () => {
        const cache = open();
        await cache.set("p:1", 60, 1);
        await cache.invalidate(new Set(range(20_000).map(keyOf)));
        expect(await cache.peek("p:1")).toBeUndefined();
      });

      it("tells of each that failed", async () => {
        const cache = open();
        for (const key of ["a", "b"]) await raw.set(`${namespace}${key}:lock`, "somebody's own");
        await cache.set("c", 60, 1);
        const error = (await cache.invalidate("a", "b", "c").catch((thrown: unknown) => thrown)) as AggregateError;
        expect(error).toBeInstanceOf(AggregateError);
        expect(error.errors.map(({ key }: { key: string }) => key).sort()).toEqual(["a", "b"]);
        expect(await cache.peek("c")).toBeUndefined();
      });
    });

    it("idle is waited for no longer than its signal allows", async () => {
      const cache = open();
      void cache.getOrSet("k", 60, () => new Promise<never>(() => undefined));
      await until("it has begun", () => cache.stats().rebuilds === 1);
      await expect(cache.idle({ signal: AbortSignal.timeout(20) })).rejects.toMatchObject({ name: "TimeoutError" });
    });
  });
}
