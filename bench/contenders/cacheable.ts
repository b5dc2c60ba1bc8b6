import { createKeyv } from "@keyv/redis";
import { Cacheable } from "cacheable";
import type { Contender } from "../contender.js";
import { installedVersion } from "./installed-version.js";

export const cacheable: Contender = {
  module: import.meta.url,
  name: "cacheable",
  version: installedVersion("cacheable"),
  configuration:
    `new Cacheable({ primary: createKeyv(url) }) with @keyv/redis ${installedVersion("@keyv/redis")}: its documentation ` +
    "puts Redis behind a memory tier, which is left out here by making Redis the primary store; throwErrors: true",
  async open(url) {
    const cache = new Cacheable({ primary: createKeyv(url) });
    // Without a listener a failing source would be an unhandled "error" event.
    cache.on("error", () => {});
    await cache.get("connect");
    return {
      get: <T>(key: string, ttlSeconds: number, recompute: () => Promise<T>) =>
        cache.getOrSet(key, recompute, { ttl: ttlSeconds * 1000, throwErrors: true }) as Promise<T>,
      async getMany<T>(
        keys: readonly string[],
        ttlSeconds: number,
        recompute: (missing: readonly string[]) => Promise<T[]>,
      ): Promise<T[]> {
        const values = await cache.getMany<T>([...keys]);
        const missing = keys.filter((_, index) => values[index] === undefined);
        if (missing.length === 0) return values as T[];
        const made = await recompute(missing);
        await cache.setMany(missing.map((key, index) => ({ key, value: made[index], ttl: ttlSeconds * 1000 })));
        let next = 0;
        return values.map((value) => value ?? made[next++]!);
      },
      invalidate: async (key) => void (await cache.delete(key)),
      close: async () => cache.disconnect(),
    };
  },
};
