import { CacheFence } from "cachefence";
import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";

const redis = new Redis(process.env.REDIS_URL ?? "redis://localhost:6379");
const cache = new CacheFence(redis, {
  namespace: "app:",
  staleFor: 300, // when the source fails, its last value is served for 5 minutes more
  earlyRefresh: "background", // nobody waits while there is a value
  recomputeTimeout: 10, // a query that hangs is a query that failed
});

let queries = 0;
const loadUser = (id: number) => sleep(50, { id, name: "Ada", query: ++queries }); // a slow query
const getUser = (id: number) => cache.getOrSet(`user:${id}`, 60, () => loadUser(id)); // fresh for 60 seconds

await cache.invalidate("user:1"); // a cold key, should this have run before
await Promise.all(Array.from({ length: 500 }, () => getUser(1)));
console.log(`500 callers, ${queries} query`); // 1 query, were they in one process or in many

await cache.invalidate("user:1"); // no later call, in any process, gets a value from before this line
console.log(await getUser(1), `after invalidate: ${queries} queries`);
redis.disconnect();
