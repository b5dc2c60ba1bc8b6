import type { Contender } from "../contender.js";
import { connect } from "./connect.js";
import { installedVersion } from "./installed-version.js";

/** Early refresh without a lock, as the paper has it (Vattani, Chierichetti, Lowenstein, VLDB 2015), with beta 1. */
export const xfetchOnly: Contender = {
  module: import.meta.url,
  name: "XFetch only",
  version: `ioredis ${installedVersion("ioredis")}`,
  configuration:
    "HMGET; on a miss, or when now - delta * ln(random) >= expiry, recompute, then HSET and PEXPIRE. No lock",
  async open(url) {
    const redis = await connect(url);
    return {
      async get<T>(key: string, ttlSeconds: number, recompute: () => Promise<T>): Promise<T> {
        const [value, delta, expiry] = await redis.hmget(key, "value", "delta", "expiry");
        const nowSeconds = Date.now() / 1000;
        // 1 - random(): on (0, 1], where the logarithm is finite.
        const drawnSeconds = nowSeconds - Number(delta) * Math.log(1 - Math.random());
        if (typeof value === "string" && drawnSeconds < Number(expiry)) return JSON.parse(value) as T;
        const fresh = await recompute();
        const storedAtSeconds = Date.now() / 1000;
        const entry = {
          value: JSON.stringify(fresh),
          delta: storedAtSeconds - nowSeconds,
          expiry: storedAtSeconds + ttlSeconds,
        };
        await redis
          .multi()
          .hset(key, entry)
          .pexpire(key, Math.ceil(ttlSeconds * 1000))
          .exec();
        return fresh;
      },
      invalidate: async (key) => void (await redis.del(key)),
      close: async () => redis.disconnect(),
    };
  },
};
