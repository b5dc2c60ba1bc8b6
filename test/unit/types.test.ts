import type {
  CacheFenceEvents,
  CacheFenceOptions,
  CacheFenceStats,
  GetOrSetOptions,
  MemoryStore,
  RecomputeContext,
  RedisClient,
  SetOptions,
} from "cachefence";
import { CacheFence } from "cachefence";
import type { Cluster, Redis } from "ioredis";
import type { Cluster as Cluster6, Redis as Redis6 } from "ioredis6";
import type RedisMock from "ioredis-mock";
import { expectTypeOf, it } from "vitest";

// Checked by the compiler (`npm run types`): none of this runs.
declare const cache: CacheFence;

it("infers the value from recompute, synchronous or not", () => {
  expectTypeOf(() => cache.getOrSet("k", 1, () => 1)).returns.resolves.toEqualTypeOf<number>();
  expectTypeOf(() => cache.getOrSet("k", 1, async () => ({ a: "b" }))).returns.resolves.toEqualTypeOf<{ a: string }>();
  expectTypeOf(() => cache.getOrSet("k", 1, async (): Promise<string | null> => null)).returns.resolves.toEqualTypeOf<
    string | null
  >();
  expectTypeOf(() => cache.getOrSet("k", 1, () => undefined)).returns.resolves.toEqualTypeOf<undefined>();
  expectTypeOf(() =>
    cache.getOrSet("k", 1, async ({ signal }) => signal.aborted),
  ).returns.resolves.toEqualTypeOf<boolean>();
});

it("takes what a query builder returns: a PromiseLike", () => {
  const query = (): PromiseLike<{ id: number }[]> => Promise.resolve([]);
  expectTypeOf(() => cache.getOrSet("k", 1, query)).returns.resolves.toEqualTypeOf<{ id: number }[]>();
});

it("gives the value to a staleFor function", () => {
  const call = () =>
    cache.getOrSet("k", 1, async () => ({ livesFor: 1 }), {
      staleFor: (token) => {
        expectTypeOf(token).toEqualTypeOf<{ livesFor: number }>();
        return token.livesFor;
      },
      tags: ["team:1"],
      retryAfter: 0,
    });
  expectTypeOf(call).returns.resolves.toEqualTypeOf<{ livesFor: number }>();
  const ofInstance = { staleFor: (user: { gone: boolean }) => (user.gone ? 0 : 60) };
  expectTypeOf(ofInstance).toExtend<CacheFenceOptions>();
  expectTypeOf(ofInstance).toExtend<GetOrSetOptions<{ gone: boolean }>>();
  expectTypeOf(ofInstance).toExtend<SetOptions>();
  expectTypeOf(ofInstance).not.toExtend<SetOptions<string>>();
  // @ts-expect-error -- per call only
  expectTypeOf({ tags: ["a"] } as const satisfies CacheFenceOptions).toBeObject();
});

it("accepts a Map for memory, and a bounded one, without a cast", () => {
  // As lru-cache declares its own.
  interface LRUCache<K, V> {
    get(key: K, options?: { updateAgeOnGet?: boolean }): V | undefined;
    set(key: K, value: V | undefined, options?: { ttl?: number }): this;
    delete(key: K): boolean;
  }
  expectTypeOf<LRUCache<string, object>>().toExtend<MemoryStore>();
  expectTypeOf<Map<string, object>>().toExtend<MemoryStore>();
  expectTypeOf(() => new CacheFence({} as RedisClient, { memory: new Map(), values: "frozen" })).toBeFunction();
  // @ts-expect-error -- nothing can be deleted from it
  expectTypeOf<Omit<Map<string, object>, "delete">>().toExtend<MemoryStore>();
});

it("takes the value's type as an argument, and holds recompute to it", () => {
  expectTypeOf(() => cache.getOrSet<number>("k", 1, () => 1)).returns.resolves.toEqualTypeOf<number>();
  const text = () => "text";
  // @ts-expect-error -- a string is no number
  expectTypeOf(() => cache.getOrSet<number>("k", 1, text)).toBeFunction();
});

it("gives the value to a ttl function", () => {
  const call = () =>
    cache.getOrSet(
      "k",
      (token) => {
        expectTypeOf(token).toEqualTypeOf<{ livesFor: number }>();
        return token.livesFor;
      },
      async () => ({ livesFor: 1 }),
    );
  expectTypeOf(call).returns.resolves.toEqualTypeOf<{ livesFor: number }>();
  const text = () => "60";
  // @ts-expect-error -- a ttl is a number
  expectTypeOf(() => cache.getOrSet("k", text, () => 1)).toBeFunction();
});

it("accepts both majors of ioredis, their Cluster, and ioredis-mock", () => {
  expectTypeOf<Redis>().toExtend<RedisClient>();
  expectTypeOf<Redis6>().toExtend<RedisClient>();
  expectTypeOf<Cluster>().toExtend<RedisClient>();
  expectTypeOf<Cluster6>().toExtend<RedisClient>();
  expectTypeOf<InstanceType<typeof RedisMock>>().toExtend<RedisClient>();
  // @ts-expect-error -- no client
  expectTypeOf(() => new CacheFence({})).toBeFunction();
});

it("accepts an explicit undefined for each option, and no unknown ones", () => {
  const undefineds: { readonly [N in keyof Required<CacheFenceOptions>]: undefined } = {
    beta: undefined,
    staleFor: undefined,
    earlyRefresh: undefined,
    recomputeTimeout: undefined,
    lockTimeout: undefined,
    waitForLock: undefined,
    namespace: undefined,
    serializer: undefined,
    deserializer: undefined,
    redisTimeout: undefined,
    onRedisError: undefined,
    retryAfter: undefined,
    memory: undefined,
    memoryLease: undefined,
    values: undefined,
  };
  expectTypeOf(undefineds).toExtend<CacheFenceOptions>();
  // @ts-expect-error -- a misspelt option
  expectTypeOf({ staleForever: 1 } as const satisfies CacheFenceOptions).toBeObject();
});

it("may be used with `await using`", () => {
  expectTypeOf<CacheFence>().toExtend<AsyncDisposable>();
});

it("tells what each event carries and which counters there are", () => {
  expectTypeOf<CacheFenceEvents["cachefence:hit"]>().toEqualTypeOf<{
    key: string;
    namespace: string;
    remaining: number;
    delta: number;
    source: "memory" | "redis";
  }>();
  expectTypeOf<CacheFenceEvents[keyof CacheFenceEvents]["namespace"]>().toEqualTypeOf<string>();
  expectTypeOf<Omit<CacheFenceStats, "redis">[Exclude<keyof CacheFenceStats, "redis">]>().toEqualTypeOf<number>();
  expectTypeOf<CacheFenceStats["redis"]>().toEqualTypeOf<"ready" | "lost" | "silent">();
  expectTypeOf<RecomputeContext["signal"]>().toEqualTypeOf<AbortSignal>();
});
