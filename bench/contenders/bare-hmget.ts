import type { Contender } from "../contender.js";
import { connect } from "./connect.js";
import { installedVersion } from "./installed-version.js";

/** What reading value, delta and expiry in one command costs with no cache library around it. */
export const bareHmget: Contender = {
  module: import.meta.url,
  name: "HMGET + JSON.parse",
  version: `ioredis ${installedVersion("ioredis")}`,
  configuration:
    "ioredis.hmgetBuffer(key, 'v', 'delta', 'expiry') and JSON.parse of v, a list in an ioredis.pipeline(); for hits only",
  async open(url) {
    const redis = await connect(url);
    const store = async <T>(key: string, ttlSeconds: number, value: T): Promise<T> => {
      const expirySeconds = Date.now() / 1000 + ttlSeconds;
      await redis.hset(key, { v: JSON.stringify(value), delta: "0.05", expiry: expirySeconds.toFixed(6) });
      await redis.expire(key, ttlSeconds);
      return value;
    };
    return {
      async get<T>(key: string, ttlSeconds: number, recompute: () => Promise<T>): Promise<T> {
        const [stored] = await redis.hmgetBuffer(key, "v", "delta", "expiry");
        return stored ? (JSON.parse(stored.toString()) as T) : store(key, ttlSeconds, await recompute());
      },
      async getMany<T>(
        keys: readonly string[],
        ttlSeconds: number,
        recompute: (missing: readonly string[]) => Promise<T[]>,
      ): Promise<T[]> {
        const reads = redis.pipeline();
        for (const key of keys) reads.hmgetBuffer(key, "v", "delta", "expiry");
        const replies = (await reads.exec()) as [Error | null, (Buffer | null)[]][];
        const stored = replies.map(([, [value]]) => value);
        const missing = keys.filter((_, index) => !stored[index]);
        const made = missing.length === 0 ? [] : await recompute(missing);
        await Promise.all(missing.map((key, index) => store(key, ttlSeconds, made[index]!)));
        let next = 0;
        return stored.map((value) => (value ? (JSON.parse(value.toString()) as T) : made[next++]!));
      },
      invalidate: async (key) => void (await redis.del(key)),
      close: async () => redis.disconnect(),
    };
  },
};
