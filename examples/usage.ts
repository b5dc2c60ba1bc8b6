import { CacheFence } from "cachefence";
import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";

const redis = new Redis(process.env.REDIS_URL ?? "redis://localhost:6379");
const cache = new CacheFence(redis, { namespace: "app:" });

let queries = 0;
async function loadUser(id: number) {
  queries++;
  await sleep(50); // a slow query
  return { id, name: "Ada" };
}

const getUser = (id: number) => cache.getOrSet(`user:${id}`, 60, () => loadUser(id)); // fresh for 60 seconds

await Promise.all(Array.from({ length: 500 }, () => getUser(1))); // a cold key, 500 callers
console.log(`500 callers, ${queries} query`); // 1 query, were they in one process or in many

await cache.invalidate("user:1"); // no later call, in any process, gets a value from before this line
console.log(await getUser(1), `after invalidate: ${queries} queries`);

await cache.invalidate("user:1"); // so that it prints the same when it is run again
redis.disconnect();
