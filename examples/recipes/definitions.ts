import { Database } from "./database.js";
import { open } from "./setting.js";

const { redis, cache } = open("definitions");
const db = new Database();

// products.ts
export const products = cache.define({
  key: (id: number) => `product:${id}`,
  recomputeMany: (ids, { signal }) => db.products(ids, signal), // in the order of ids, undefined for an unknown one
  ttl: (product) => (product ? 60 : 5),
  tags: ["catalogue"],
  staleFor: (product) => (product ? 300 : 0),
});

export async function renameProduct(id: number, name: string): Promise<void> {
  await db.renameProduct(id, name);
  await products.invalidate(id);
}

// wherever products are needed
console.log(await products.getMany([1, 2, 404])); // Map: id -> product, or undefined
console.log(await products.get(1)); // a hit
await renameProduct(1, "Anvil");
console.log((await products.get(1))?.name, `${db.queries} queries`);
await cache.invalidateTags("catalogue"); // all of them, at the cost of one key

console.log((await products.getMany([1, 2])).size, `${db.queries} queries`);
redis.disconnect();
