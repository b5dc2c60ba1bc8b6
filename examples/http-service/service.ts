import { CacheFence, CacheFenceError } from "cachefence";
import Fastify, { type FastifyInstance } from "fastify";
import type { Redis } from "ioredis";
import { onCacheEvent } from "./cache-events.js";
import { closeConnectionsAtTheEnd } from "./graceful-close.js";
import { serveLivePage } from "./live-page.js";
import { createMetrics } from "./metrics.js";
import type { Order, ShopDatabase } from "./shop-database.js";

const COUNTRIES = ["de", "fr", "gb", "it"];
const TTL_SECONDS = 5;

export interface ServiceOptions {
  readonly redis: Redis;
  readonly database: ShopDatabase;
  readonly namespace: string;
  /** False: every request asks the database, to compare with. */
  readonly isCached: boolean;
}

export async function createService(options: ServiceOptions): Promise<FastifyInstance> {
  const { redis, database, namespace, isCached } = options;
  const cache = new CacheFence(redis, {
    namespace,
    earlyRefresh: "background", // Nobody waits for a value that is being renewed,
    staleFor: 30, // nor for half a minute after it has expired, or while the database is down.
    recomputeTimeout: 5,
  });
  const app = Fastify({ logger: { level: process.env.LOG_LEVEL ?? "warn" } });
  closeConnectionsAtTheEnd(app);
  const metrics = createMetrics(cache);
  // A refresh in the background has no caller to tell.
  const stopLogging = onCacheEvent("cachefence:rebuild-end", ({ key, error }) => {
    if (error !== undefined) app.log.warn({ key, err: error }, "a rebuild failed");
  });

  const country = { type: "string", enum: COUNTRIES };
  const params = { type: "object", properties: { country } };
  app.get<{ Params: { country: string } }>("/top-products/:country", { schema: { params } }, async (request) => {
    const { country } = request.params;
    if (!isCached) return database.topProducts(country);
    return cache.getOrSet(keyOf(country), TTL_SECONDS, ({ signal }) => database.topProducts(country, signal));
  });

  const number = { type: "integer", minimum: 1 };
  const body = { type: "object", required: ["country", "productId", "cents"] };
  const properties = { country, productId: { ...number, maximum: 500 }, cents: { ...number, maximum: 1_000_000 } };
  app.post<{ Body: Order }>("/orders", { schema: { body: { ...body, properties } } }, async (request, reply) => {
    await database.order(request.body);
    // From here on nobody is served without this order, not even by a rebuild that is under way in another process.
    await cache.invalidate(keyOf(request.body.country));
    return reply.code(201).send();
  });

  app.get("/metrics", async (_, reply) => {
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });
  await serveLivePage(app, async () => ({ ...cache.stats(), queries: await database.countQueries() }));

  app.setErrorHandler((error, request, reply) => {
    if (!(error instanceof CacheFenceError)) return reply.send(error);
    request.log.error(error);
    return reply.code(503).send({ message: "The database does not answer; try again" });
  });

  // When the last request has been answered: let rebuilds in the background end, and their values be stored.
  app.addHook("onClose", async () => {
    await cache.idle();
    await cache.close();
    stopLogging();
    metrics.close();
  });
  return app;
}

function keyOf(country: string): string {
  return `top-products:${country}`;
}
