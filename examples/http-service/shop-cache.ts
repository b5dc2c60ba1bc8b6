import { CacheFence } from "cachefence";
import type { Redis } from "ioredis";
import { LRUCache } from "lru-cache";
import type { ShopDatabase } from "./shop-database.js";

export const TTL_SECONDS = 5;

export type ShopCache = ReturnType<typeof createShopCache>;

/** What the service reads, through the cache, and what it tells the cache after a change. */
export function createShopCache(redis: Redis, database: ShopDatabase, namespace: string) {
  const cache = new CacheFence(redis, {
    namespace,
    earlyRefresh: "background", // Nobody waits for a value that is being renewed,
    staleFor: 30, // nor for half a minute after it has expired, or while the database is down.
    recomputeTimeout: 5,
    memory: new LRUCache({ max: 10_000 }), // A value that is asked for all the time costs no command.
    values: "frozen",
  });
  const ordersOf = (country: string) => `orders:${country}`;

  return {
    cache,
    topProducts: (country: string, signal?: AbortSignal) =>
      cache.getOrSetEntry(
        `top-products:${country}`,
        TTL_SECONDS,
        (context) => database.topProducts(country, context.signal),
        { tags: [ordersOf(country)], signal },
      ),
    revenue: (country: string) =>
      cache.getOrSetEntry(`revenue:${country}`, TTL_SECONDS, ({ signal }) => database.revenue(country, signal), {
        tags: [ordersOf(country)],
      }),
    // A list is one read in Redis, and one query for what is missing.
    products: cache.define({
      key: (id: number) => `product:${id}`,
      recomputeMany: (ids, { signal }) => database.products(ids, signal),
      ttl: (product) => (product ? 60 : TTL_SECONDS),
    }),
    /** Resolved, nobody is served without the order that came before, not even by a rebuild that is under way elsewhere. */
    ordered: (country: string) => cache.invalidateTags(ordersOf(country)),
  };
}
