import { constants } from "node:os";
import { Redis } from "ioredis";
import { createService } from "./http-service/service.js";
import { ShopDatabase } from "./http-service/shop-database.js";
import { Cleanup } from "./support/cleanup.js";
import { needRealServer } from "./support/real-server.js";

// `npm run example:http`: a web service, PostgreSQL behind it (in-process), cachefence between the two.
// Settings: REDIS_URL, PORT, LOG_LEVEL, NAMESPACE, CACHE=off. Started twice with one REDIS_URL, two services share values.

const cleanup = new Cleanup();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void cleanup.run().then(() => process.exit(128 + constants.signals[signal])));
}

try {
  const server = await needRealServer(cleanup);
  console.log(`Redis: ${server.description}. Filling the database ...`);
  const database = await ShopDatabase.start();
  cleanup.defer(() => database.close());

  const redis = new Redis(server.url);
  redis.on("error", (error: Error) => console.error(`Redis: ${error.message}`));
  cleanup.defer(() => redis.disconnect());

  const namespace = process.env.NAMESPACE ?? "shop:";
  const app = await createService({ redis, database, namespace, isCached: process.env.CACHE !== "off" });
  // Undone first: no new request, the open ones answered, rebuilds in the background ended; then the connections.
  cleanup.defer(() => app.close());
  console.log(`Listening on ${await app.listen({ port: Number(process.env.PORT ?? 3000) })} (open it in a browser)`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  await cleanup.run();
  process.exitCode = 1;
}
