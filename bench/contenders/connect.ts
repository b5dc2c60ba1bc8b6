import { Redis } from "ioredis";

/** An ioredis client with its default options, connected before anything is measured. */
export async function connect(url: string): Promise<Redis> {
  const redis = new Redis(url);
  await redis.ping();
  return redis;
}
