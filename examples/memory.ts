import { CacheFence } from "cachefence";
import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";

const redis = new Redis(process.env.REDIS_URL ?? "redis://localhost:6379");

const cache = new CacheFence(redis, {
  namespace: "memory:",
  memory: new Map(), // or an LRUCache, which bounds it
  memoryLease: 1, // seconds
  values: "frozen", // all callers share one object, which nobody can change
});

const rates = () => cache.getOrSet("rates", 60, () => ({ eur: 1, usd: 1.08 }));
await rates(); // a miss: from the source
for (let read = 0; read < 10; read++) await sleep(20).then(rates);
console.log(cache.stats().memoryHits > 0 ? "hits from memory" : "no hits from memory");

await cache.invalidate("rates"); // resolves when no process has a copy from before it
redis.disconnect();
