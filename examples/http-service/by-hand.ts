import type { Redis } from "ioredis";
import type { Reader } from "./herd.js";

/** Cache-aside as it is written without a library: look, else ask the source, then store. */
export function readByHand<T>(
  redis: Redis,
  key: string,
  ttlSeconds: number,
  query: (signal: AbortSignal) => Promise<T>,
): Reader {
  return {
    async forget() {
      await redis.del(key);
    },
    async read(signal) {
      const stored = await redis.get(key);
      if (stored !== null) return JSON.parse(stored) as T;
      const found = await query(signal);
      await redis.set(key, JSON.stringify(found), "EX", ttlSeconds);
      return found;
    },
  };
}
