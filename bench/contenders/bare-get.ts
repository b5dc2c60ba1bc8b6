import type { Contender } from "../contender.js";
import { connect } from "./connect.js";
import { installedVersion } from "./installed-version.js";

/** The floor of the hit path: what a read costs with no cache library at all. */
export const bareGet: Contender = {
  module: import.meta.url,
  name: "GET + JSON.parse",
  version: `ioredis ${installedVersion("ioredis")}`,
  configuration: "ioredis.get(key) and JSON.parse; the floor, for hits only",
  async open(url) {
    const redis = await connect(url);
    return {
      async get<T>(key: string, ttlSeconds: number, recompute: () => Promise<T>): Promise<T> {
        const stored = await redis.get(key);
        if (stored !== null) return JSON.parse(stored) as T;
        const value = await recompute();
        await redis.set(key, JSON.stringify(value), "EX", ttlSeconds);
        return value;
      },
      invalidate: async (key) => void (await redis.del(key)),
      close: async () => redis.disconnect(),
    };
  },
};
