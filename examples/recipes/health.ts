import { once } from "node:events";
import type { CacheFence } from "cachefence";
import { open } from "./setting.js";

const { redis, cache } = open("health");

/** For a readiness probe: without Redis this service is slow and not broken, for the source serves its callers. */
function health(cache: CacheFence): { httpStatus: number; cache: "ready" | "lost" | "silent" } {
  return { httpStatus: 200, cache: cache.stats().redis };
}

await cache.getOrSet("answer", 60, () => 42);
console.log(health(cache));
const ended = once(redis, "end");
redis.disconnect();
await ended;
console.log(health(cache), await cache.getOrSet("answer", 60, () => 42));
