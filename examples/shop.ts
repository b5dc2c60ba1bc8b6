import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { CacheFence, CacheFenceError } from "cachefence";
import Fastify from "fastify";
import { Redis } from "ioredis";
import { LRUCache } from "lru-cache";
import { cacheHeaders } from "./support/cache-headers.js";
import { Cleanup } from "./support/cleanup.js";
import { needRealServer } from "./support/real-server.js";

// `npm run example:shop`: a shop's API, all of it in this file. Its database is a Map that answers slowly and counts.
// Settings: REDIS_URL, PORT, NAMESPACE.

const CATEGORIES = ["garden", "kitchen", "office"] as const;
type Category = (typeof CATEGORIES)[number];
const PAGE_SIZE = 20;
const PAGE_SECONDS = 30;

interface Product {
  readonly id: number;
  readonly name: string;
  readonly category: Category;
  readonly cents: number;
}

/** What the delivery service lets this shop in with, until it expires. */
interface Token {
  readonly id: string;
  readonly expiresAtMs: number;
}

const products = new Map<number, Product>(
  Array.from({ length: 200 }, (_, index) => {
    const category = CATEGORIES[index % CATEGORIES.length]!;
    return [index + 1, { id: index + 1, name: `Product ${index + 1}`, category, cents: 1_000 + index }];
  }),
);

const queries = { products: 0, productRows: 0, pages: 0, tokens: 0 };
const database = {
  async products(ids: readonly number[], signal: AbortSignal): Promise<(Product | undefined)[]> {
    queries.products++;
    queries.productRows += ids.length;
    await sleep(30, undefined, { signal });
    return ids.map((id) => products.get(id));
  },
  async page(category: Category, page: number, signal: AbortSignal): Promise<Product[]> {
    queries.pages++;
    await sleep(50, undefined, { signal });
    const all = [...products.values()].filter((product) => product.category === category);
    return all.slice((page - 1) * PAGE_SIZE, page * PAGE_SIZE);
  },
  async save(changed: readonly Product[]): Promise<void> {
    for (const product of changed) products.set(product.id, product);
  },
};

const deliveryService = {
  async logIn(signal: AbortSignal): Promise<Token> {
    const id = `token-${++queries.tokens}`;
    await sleep(50, undefined, { signal });
    return { id, expiresAtMs: Date.now() + 60_000 };
  },
};

const cleanup = new Cleanup();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void cleanup.run().then(() => process.exit(128 + constants.signals[signal])));
}

try {
  const server = await needRealServer(cleanup);
  const redis = new Redis(server.url);
  redis.on("error", (error: Error) => console.error(`Redis: ${error.message}`));
  cleanup.defer(() => redis.disconnect());

  const cache = new CacheFence(redis, {
    namespace: process.env.NAMESPACE ?? "shop-api:",
    earlyRefresh: "background", // nobody waits for a value that is being renewed,
    staleFor: 300, // nor while the database is down: rather an old page than none
    recomputeTimeout: 5,
    memory: new LRUCache({ max: 10_000 }), // a hot page costs no command; a fence reaches it all the same
    values: "frozen", // all requests share one object, which none of them can change
  });

  const tagOf = (category: Category) => `category:${category}`;

  // A list of fifty is one read in Redis and one query for what is missing. A single product has the same key.
  const productById = cache.define({
    key: (id: number) => `product:${id}`,
    recomputeMany: (ids, { signal }) => database.products(ids, signal),
    ttl: (product) => (product ? 60 : 5), // an id that nobody knows is not asked for again for 5 seconds,
    staleFor: (product) => (product ? 300 : 0), // and is known as soon as it exists
  });

  const pageOf = (category: Category, page: number) =>
    cache.getOrSetEntry(
      `page:${category}:${page}`,
      PAGE_SECONDS,
      ({ signal }) => database.page(category, page, signal),
      { tags: [tagOf(category)] }, // all pages of a category go at once
    );

  // Renewed in the second half of its life, and served until shortly before its end while that fails. Never longer.
  const halfOfItsLife = (token: Token) => Math.max(0, (token.expiresAtMs - Date.now()) / 1000 - 2) / 2;
  const deliveryToken = () =>
    cache.getOrSet("delivery:token", halfOfItsLife, ({ signal }) => deliveryService.logIn(signal), {
      staleFor: halfOfItsLife,
    });

  // The fence comes after the change. If it rejects, the answer is 503, and the client sends its request again.
  const save = async (changed: readonly Product[], categories: readonly Category[]) => {
    await database.save(changed);
    await Promise.all([
      productById.invalidate(...changed.map(({ id }) => id)),
      cache.invalidateTags(...categories.map(tagOf)),
    ]);
  };

  const app = Fastify();
  const whole = { type: "integer", minimum: 1, maximum: 1_000_000 };
  const category = { type: "string", enum: CATEGORIES };
  const ids = { type: "string", pattern: "^\\d{1,7}(,\\d{1,7}){0,99}$" };
  const strict = { type: "object", additionalProperties: false };
  const object = (properties: object) => ({ ...strict, properties, required: Object.keys(properties) });

  app.get<{ Params: { id: number } }>(
    "/products/:id",
    { schema: { params: object({ id: whole }) } },
    async ({ params }, reply) => {
      const product = await productById.get(params.id);
      return product ?? reply.code(404).send({ message: `No product ${params.id}` });
    },
  );
  app.get<{ Querystring: { ids: string } }>(
    "/products",
    { schema: { querystring: object({ ids }) } },
    async ({ query }) => {
      const found = await productById.getMany(query.ids.split(",").map(Number));
      return [...found.values()].filter((product) => product !== undefined);
    },
  );
  app.get<{ Params: { category: Category; page: number } }>(
    "/categories/:category/:page",
    { schema: { params: object({ category, page: whole }) } },
    async ({ params }, reply) => {
      const entry = await pageOf(params.category, params.page);
      return reply.headers(cacheHeaders(entry, PAGE_SECONDS)).send(entry.value);
    },
  );
  app.put<{ Body: Product }>(
    "/products",
    { schema: { body: object({ id: whole, name: { type: "string" }, category, cents: whole }) } },
    async ({ body }, reply) => {
      const before = products.get(body.id)?.category ?? body.category;
      await save([body], [before, body.category]);
      return reply.code(204).send();
    },
  );
  app.put<{ Params: { category: Category }; Body: { cents: number } }>(
    "/categories/:category/price",
    { schema: { params: object({ category }), body: object({ cents: whole }) } },
    async ({ params, body }, reply) => {
      const inIt = [...products.values()].filter((product) => product.category === params.category);
      await save(
        inIt.map((product) => ({ ...product, cents: body.cents })),
        [params.category],
      );
      return reply.code(204).send();
    },
  );
  app.get("/delivery", async () => ({ days: 2, askedWith: (await deliveryToken()).id }));
  app.get("/queries", async () => queries);
  app.get("/health", async () => ({ redis: cache.stats().redis }));

  app.setErrorHandler((error, _, reply) => {
    if (!(error instanceof CacheFenceError)) return reply.send(error);
    console.error(error);
    return reply.code(503).send({ message: "Try again" });
  });

  cleanup.defer(async () => {
    await app.close();
    await cache.idle(); // rebuilds in the background
    await cache.close();
  });
  console.log(`Redis: ${server.description}.`);
  const address = await app.listen({ port: Number(process.env.PORT ?? 3000) });
  console.log(`Listening on ${address}`);
  for (const path of ["categories/garden/1", "products?ids=1,2,3", "queries"])
    console.log(`  curl -i "${address}/${path}"`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  await cleanup.run();
  process.exitCode = 1;
}
