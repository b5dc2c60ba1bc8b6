import { createCache } from "async-cache-dedupe";
import type { Contender } from "../contender.js";
import { connect } from "./connect.js";
import { installedVersion } from "./installed-version.js";

interface Query {
  readonly key: string;
  readonly recompute: () => Promise<unknown>;
}

type DefinedFunctions = Record<string, (query: Query) => Promise<unknown>>;

export const asyncCacheDedupe: Contender = {
  module: import.meta.url,
  name: "async-cache-dedupe",
  version: installedVersion("async-cache-dedupe"),
  configuration:
    "createCache({ storage: { type: 'redis', options: { client: ioredis } } }), one defined function per ttl",
  async open(url) {
    const redis = await connect(url);
    const cache = createCache({ storage: { type: "redis", options: { client: redis } } });
    const names = new Map<number, string>();
    // It takes a ttl per defined function, in whole seconds, and knows the recompute only from the arguments.
    const functionFor = (ttlSeconds: number): string => {
      const known = names.get(ttlSeconds);
      if (known !== undefined) return known;
      const name = `for${ttlSeconds}s`;
      names.set(ttlSeconds, name);
      cache.define(name, { ttl: ttlSeconds, serialize: (query: Query) => query.key }, (query: Query) =>
        query.recompute(),
      );
      return name;
    };
    const functions = cache as unknown as DefinedFunctions;
    return {
      get: <T>(key: string, ttlSeconds: number, recompute: () => Promise<T>) =>
        functions[functionFor(ttlSeconds)]!({ key, recompute }) as Promise<T>,
      async invalidate(key) {
        // The ttl is part of the stored key, by way of the function's name; a ttl never read here cannot be cleared.
        if (names.size === 0) throw new Error("Nothing was read before the first invalidate");
        await Promise.all([...names.values()].map((name) => cache.clear(name, { key })));
      },
      close: async () => redis.disconnect(),
    };
  },
};
