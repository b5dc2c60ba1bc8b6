import { CacheFenceError } from "cachefence";
import Fastify, { type FastifyInstance } from "fastify";
import type { Redis } from "ioredis";
import { cacheHeaders } from "../support/cache-headers.js";
import { readByHand } from "./by-hand.js";
import { onCacheEvent } from "./cache-events.js";
import { closeConnectionsAtTheEnd } from "./graceful-close.js";
import { Herd, type Reader } from "./herd.js";
import { serveLivePage } from "./live-page.js";
import { createMetrics } from "./metrics.js";
import { createShopCache, TTL_SECONDS } from "./shop-cache.js";
import type { Order, ShopDatabase } from "./shop-database.js";

const COUNTRIES = ["de", "fr", "gb", "it"];
const HERD_COUNTRY = "de";

export interface ServiceOptions {
  readonly redis: Redis;
  readonly database: ShopDatabase;
  readonly namespace: string;
  /** False: every request for top products asks the database, to compare with. */
  readonly isCached: boolean;
}

export async function createService(options: ServiceOptions): Promise<FastifyInstance> {
  const { redis, database, namespace, isCached } = options;
  const shop = createShopCache(redis, database, namespace);
  const { cache } = shop;
  const app = Fastify({ logger: { level: process.env.LOG_LEVEL ?? "warn" } });
  closeConnectionsAtTheEnd(app);
  const metrics = createMetrics(cache);
  // A refresh in the background has no caller to tell.
  const stopLogging = onCacheEvent("cachefence:rebuild-end", ({ key, error }) => {
    if (error !== undefined) app.log.warn({ key, err: error }, "a rebuild failed");
  });

  const country = { type: "string", enum: COUNTRIES };
  const params = { type: "object", properties: { country } };
  app.get<{ Params: { country: string } }>("/top-products/:country", { schema: { params } }, async (request, reply) => {
    const { country } = request.params;
    if (!isCached) return database.topProducts(country);
    const entry = await shop.topProducts(country);
    return reply.headers(cacheHeaders(entry, TTL_SECONDS)).send(entry.value);
  });
  app.get<{ Params: { country: string } }>("/revenue/:country", { schema: { params } }, async (request, reply) => {
    const entry = await shop.revenue(request.params.country);
    return reply.headers(cacheHeaders(entry, TTL_SECONDS)).send(entry.value);
  });

  const ids = { type: "string", pattern: "^\\d{1,7}(,\\d{1,7}){0,99}$" };
  const querystring = { type: "object", required: ["ids"], properties: { ids } };
  app.get<{ Querystring: { ids: string } }>("/products", { schema: { querystring } }, async (request) => {
    const found = await shop.products.getMany(request.query.ids.split(",").map(Number));
    return [...found.values()].filter((product) => product !== undefined);
  });

  const number = { type: "integer", minimum: 1 };
  const body = { type: "object", required: ["country", "productId", "cents"] };
  const properties = { country, productId: { ...number, maximum: 500 }, cents: { ...number, maximum: 1_000_000 } };
  app.post<{ Body: Order }>("/orders", { schema: { body: { ...body, properties } } }, async (request, reply) => {
    await database.order(request.body);
    await shop.ordered(request.body.country);
    return reply.code(201).send();
  });

  app.get("/metrics", async (_, reply) => {
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });

  const cachefence: Reader = {
    forget: () => shop.ordered(HERD_COUNTRY),
    read: (signal) => shop.topProducts(HERD_COUNTRY, signal),
  };
  const byHand = readByHand(redis, `${namespace}by-hand:top-products:${HERD_COUNTRY}`, TTL_SECONDS, (signal) =>
    database.topProducts(HERD_COUNTRY, signal),
  );
  const herd = new Herd(database, { byHand, cachefence });
  await serveLivePage(app, herd, async () => ({ ...cache.stats(), queries: await database.countQueries() }));

  app.setErrorHandler((error, request, reply) => {
    if (!(error instanceof CacheFenceError)) return reply.send(error);
    request.log.error(error);
    return reply.code(503).send({ message: "The database does not answer; try again" });
  });

  // When the last request has been answered: let rebuilds in the background end, and their values be stored.
  app.addHook("onClose", async () => {
    await herd.stop();
    await cache.idle();
    await cache.close();
    stopLogging();
    metrics.close();
  });
  return app;
}
