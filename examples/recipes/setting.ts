import { randomBytes } from "node:crypto";
import { CacheFence, type CacheFenceOptions } from "cachefence";
import { Redis } from "ioredis";

export const redisUrl = process.env.REDIS_URL ?? "redis://localhost:6379";

/** A client and a cache for one recipe, under names that no other run has. */
export function open(recipe: string, options: CacheFenceOptions = {}): { redis: Redis; cache: CacheFence } {
  const redis = new Redis(redisUrl);
  const namespace = `recipes:${recipe}:${randomBytes(4).toString("hex")}:`;
  return { redis, cache: new CacheFence(redis, { namespace, ...options }) };
}
