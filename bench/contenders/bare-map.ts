import type { Contender } from "../contender.js";

/** What is left of the loop when the cache costs nothing: the limit of what can be measured. */
export const bareMap: Contender = {
  module: import.meta.url,
  name: "Map",
  version: `Node ${process.versions.node}`,
  configuration: "map.get(key) in an async function; the limit of the loop, for hits only",
  promise: "nothing: one process, no Redis",
  async open() {
    const map = new Map<string, unknown>();
    return {
      async get<T>(key: string, _ttlSeconds: number, recompute: () => Promise<T>): Promise<T> {
        const known = map.get(key);
        if (known !== undefined) return known as T;
        const value = await recompute();
        map.set(key, value);
        return value;
      },
      invalidate: async (key) => void map.delete(key),
      close: async () => map.clear(),
    };
  },
};
