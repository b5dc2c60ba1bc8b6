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
      invalidate: async (key) => void (await cache.delete(key)),
      close: async () => cache.disconnect(),
    };
  },
};
