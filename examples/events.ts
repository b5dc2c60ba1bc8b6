import type { CacheFenceEvents } from "cachefence";
import { CacheFence } from "cachefence";
import { Redis } from "ioredis";
import { subscribe } from "node:diagnostics_channel";

subscribe("cachefence:rebuild-end", (message) => {
  const { key, seconds, stored, error } = message as CacheFenceEvents["cachefence:rebuild-end"];
  console.log(`${key}: rebuilt in ${seconds.toFixed(3)} s,`, error ?? (stored ? "stored" : "not stored"));
});

const redis = new Redis(process.env.REDIS_URL ?? "redis://localhost:6379");
const cache = new CacheFence(redis, { namespace: "events:" });
await cache.getOrSet("answer", 60, () => 42);
await cache.getOrSet("answer", 60, () => 42);
await cache.invalidate("answer");
console.log(cache.stats()); // { hits: 1, misses: 1, rebuilds: 1, ... }
redis.disconnect();
