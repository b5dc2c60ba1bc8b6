import { once } from "node:events";
import { CacheFence } from "cachefence";
import { Redis } from "ioredis";
import { redisUrl } from "./setting.js";

export const REDIS = Symbol("REDIS");

/** For the `providers` of a module, which exports CacheFence. */
export const cacheProviders = [
  { provide: REDIS, useFactory: () => new Redis(redisUrl) },
  {
    provide: CacheFence,
    useFactory: (redis: Redis) => new CacheFence(redis, { namespace: "app:", earlyRefresh: "background" }),
    inject: [REDIS],
  },
  {
    provide: "cache-shutdown",
    useFactory: (cache: CacheFence, redis: Redis) => ({
      async onApplicationShutdown(): Promise<void> {
        await cache.idle({ signal: AbortSignal.timeout(10_000) }).catch(() => undefined);
        await cache.close();
        await redis.quit();
      },
    }),
    inject: [CacheFence, REDIS],
  },
];

// What Nest does with them: each factory is called once, with what it injects.
const made = new Map<unknown, unknown>();
for (const { provide, useFactory, inject = [] } of cacheProviders) {
  made.set(provide, (useFactory as (...injected: unknown[]) => unknown)(...inject.map((token) => made.get(token))));
}
const redis = made.get(REDIS) as Redis;
const ended = once(redis, "end");
const cache = made.get(CacheFence) as CacheFence;
await cache.invalidate("nest");
console.log(await cache.getOrSet("nest", 1, () => "served"));
await (made.get("cache-shutdown") as { onApplicationShutdown(): Promise<void> }).onApplicationShutdown();
await ended;
console.log("ended");
