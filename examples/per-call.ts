import { CacheFence } from "cachefence";
import { Redis } from "ioredis";

const redis = new Redis(process.env.REDIS_URL ?? "redis://localhost:6379");
const cache = new CacheFence(redis, { namespace: "per-call:" });

const loadPrice = async (signal: AbortSignal) => {
  signal.throwIfAborted(); // hand it on: fetch(url, { signal })
  return { price: 12.5 };
};

const price = await cache.getOrSet("price:7", 30, ({ signal }) => loadPrice(signal), {
  beta: 2, // refresh this one earlier
  staleFor: 300, // rather an old price than none
  earlyRefresh: "background", // nobody waits while there is a value, old or not
  recomputeTimeout: 2, // aborts the signal of the recompute
  signal: AbortSignal.timeout(5_000), // this caller stops waiting; the rebuild goes on for the others
});

// The lifetime taken from the value: "not found" is kept for 5 seconds only.
const found = await cache.getOrSet(
  "user:404",
  (user) => (user === undefined ? 5 : 60),
  async (): Promise<string | undefined> => undefined,
);

console.log(price, found);
await cache.idle(); // rebuilds that still run in the background
redis.disconnect();
