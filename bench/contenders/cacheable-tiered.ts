import type { EventEmitter } from "node:events";
import { createKeyv } from "@keyv/redis";
import { RedisMessageProvider } from "@qified/redis";
import { Cacheable } from "cacheable";
import type { Contender } from "../contender.js";
import { installedVersion } from "./installed-version.js";

export const cacheableTiered: Contender = {
  module: import.meta.url,
  name: "cacheable L1 + L2 + sync",
  version: installedVersion("cacheable"),
  configuration:
    `new Cacheable({ secondary: createKeyv(url), sync: { qified: new RedisMessageProvider({ uri: url }) } }) with ` +
    `@keyv/redis ${installedVersion("@keyv/redis")} and @qified/redis ${installedVersion("@qified/redis")}; throwErrors: true`,
  promise: "a message makes the others apply it",
  async open(url) {
    const provider = new RedisMessageProvider({ uri: url });
    // It listens for no errors of its two clients: a connection that is cut would end the process.
    const { pub, sub } = provider as unknown as Record<"pub" | "sub", EventEmitter>;
    for (const client of [pub, sub]) client.on("error", () => {});
    const cache = new Cacheable({ secondary: createKeyv(url), sync: { qified: provider } });
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
