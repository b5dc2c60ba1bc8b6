import type { Contender } from "../contender.js";
import { connect } from "./connect.js";
import { installedVersion } from "./installed-version.js";

/** What reading value, delta and expiry in one command costs with no cache library around it. */
export const bareHmget: Contender = {
  module: import.meta.url,
  name: "HMGET + JSON.parse",
  version: `ioredis ${installedVersion("ioredis")}`,
  configuration: "ioredis.hmgetBuffer(key, 'v', 'delta', 'expiry') and JSON.parse of v; for hits only",
  async open(url) {
    const redis = await connect(url);
    return {
      async get<T>(key: string, ttlSeconds: number, recompute: () => Promise<T>): Promise<T> {
        const [stored] = await redis.hmgetBuffer(key, "v", "delta", "expiry");
        if (stored) return JSON.parse(stored.toString()) as T;
        const value = await recompute();
        const expirySeconds = Date.now() / 1000 + ttlSeconds;
        await redis.hset(key, { v: JSON.stringify(value), delta: "0.05", expiry: expirySeconds.toFixed(6) });
        await redis.expire(key, ttlSeconds);
        return value;
      },
      invalidate: async (key) => void (await redis.del(key)),
      close: async () => redis.disconnect(),
    };
  },
};
