import { CacheFence } from "cachefence";
import { Redis } from "ioredis";

const redis = new Redis(process.env.REDIS_URL ?? "redis://localhost:6379");
const cache = new CacheFence(redis, { namespace: "lists:" });

interface Product {
  readonly id: number;
  readonly name: string;
}

let queries = 0;
const db = {
  products: async (ids: readonly number[], signal: AbortSignal): Promise<(Product | undefined)[]> => {
    signal.throwIfAborted();
    queries++;
    return ids.map((id) => (id === 404 ? undefined : { id, name: `Product ${String(id)}` }));
  },
};

const products = cache.define({
  key: (id: number) => `product:${String(id)}`,
  recomputeMany: (ids, { signal }) => db.products(ids, signal), // one query for all that are missing
  ttl: (product) => (product ? 60 : 5), // "not found" is kept for 5 seconds only
  tags: ["catalogue"],
});

console.log(await products.getMany([1, 2, 404])); // Map: id -> product, or undefined
console.log(await products.get(1)); // a hit
await products.invalidate(1);
await cache.invalidateTags("catalogue"); // fences all of them, at the cost of one key
console.log((await products.getMany([1, 2])).size, `${String(queries)} queries`);

await products.invalidate(1, 2, 404);
redis.disconnect();
