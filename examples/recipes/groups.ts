import { Database, type Product } from "./database.js";
import { open } from "./setting.js";

const { redis, cache } = open("groups");
const db = new Database();

function brandPage(brand: string, page: number): Promise<Product[]> {
  return cache.getOrSet(`brand:${brand}:page:${page}`, 300, () => db.productsOf(brand, page), {
    tags: [`brand:${brand}`],
  });
}

async function renameProduct(id: number, name: string): Promise<void> {
  const { brand } = await db.renameProduct(id, name);
  await cache.invalidateTags(`brand:${brand}`); // all pages of the brand, however many there are
}

const names = async () => {
  const pages = await Promise.all([brandPage("acme", 1), brandPage("acme", 2), brandPage("zenith", 1)]);
  return pages.map((page) => page.map(({ name }) => name).join(" and "));
};
console.log(await names());
await renameProduct(2, "Anvil");
console.log(await names(), `${db.queries} queries`); // two pages of the one brand again
redis.disconnect();
