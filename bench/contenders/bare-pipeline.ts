import type { Contender } from "../contender.js";
import { connect } from "./connect.js";
import { installedVersion } from "./installed-version.js";

/** The floor of a list: all keys in one pipeline, what misses stored in another. */
export const barePipeline: Contender = {
  module: import.meta.url,
  name: "pipeline of GETs",
  version: `ioredis ${installedVersion("ioredis")}`,
  configuration: "ioredis.pipeline() of GETs and JSON.parse; what misses, in a pipeline of SET EX. The floor of a list",
  async open(url) {
    const redis = await connect(url);
    const getMany = async <T>(
      keys: readonly string[],
      ttlSeconds: number,
      recompute: (missing: readonly string[]) => Promise<T[]>,
    ): Promise<T[]> => {
      const reads = redis.pipeline();
      for (const key of keys) reads.get(key);
      const replies = (await reads.exec()) ?? [];
      const values = replies.map(([, stored]) => (typeof stored === "string" ? (JSON.parse(stored) as T) : undefined));
      const missing = keys.filter((_, index) => values[index] === undefined);
      if (missing.length === 0) return values as T[];
      const made = await recompute(missing);
      const stores = redis.pipeline();
      missing.forEach((key, index) => stores.set(key, JSON.stringify(made[index]), "EX", ttlSeconds));
      await stores.exec();
      let next = 0;
      return values.map((value) => value ?? made[next++]!);
    };
    return {
      getMany,
      get: async <T>(key: string, ttlSeconds: number, recompute: () => Promise<T>): Promise<T> =>
        (await getMany([key], ttlSeconds, async () => [await recompute()]))[0]!,
      invalidate: async (key) => void (await redis.del(key)),
      close: async () => redis.disconnect(),
    };
  },
};
