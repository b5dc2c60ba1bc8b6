import { createCache } from "async-cache-dedupe";
import type { Contender } from "../contender.js";
import { installedVersion } from "./installed-version.js";

const NAME = "read";

interface Query {
  readonly key: string;
  readonly recompute: () => Promise<unknown>;
}

export const asyncCacheDedupeMemory: Contender = {
  module: import.meta.url,
  name: "async-cache-dedupe, memory",
  version: installedVersion("async-cache-dedupe"),
  configuration:
    "createCache({ storage: { type: 'memory', options: { size: 10_000 } } }); one process, no Redis, one object for all",
  promise: "nothing: other processes are not told",
  async open() {
    const cache = createCache({ storage: { type: "memory", options: { size: 10_000 } } });
    let defined: ((query: Query) => Promise<unknown>) | undefined;
    // One ttl in all scenarios that it takes part in.
    const define = (ttlSeconds: number): ((query: Query) => Promise<unknown>) => {
      cache.define(NAME, { ttl: ttlSeconds, serialize: (query: Query) => query.key }, (query: Query) =>
        query.recompute(),
      );
      return (cache as unknown as Record<string, (query: Query) => Promise<unknown>>)[NAME]!.bind(cache);
    };
    return {
      get<T>(key: string, ttlSeconds: number, recompute: () => Promise<T>): Promise<T> {
        defined ??= define(ttlSeconds);
        return defined({ key, recompute }) as Promise<T>;
      },
      invalidate: async (key) => void (await cache.clear(NAME, { key })),
      close: async () => {},
    };
  },
};
