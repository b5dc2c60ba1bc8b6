import { BentoCache, bentostore } from "bentocache";
import { redisDriver } from "bentocache/drivers/redis";
import type { Contender } from "../contender.js";
import { connect } from "./connect.js";
import { installedVersion } from "./installed-version.js";

export const bentocache: Contender = {
  module: import.meta.url,
  name: "bentocache",
  version: installedVersion("bentocache"),
  configuration: "bentostore().useL2Layer(redisDriver({ connection: ioredis })); no L1; grace off, as by default",
  async open(url) {
    const redis = await connect(url);
    const bento = new BentoCache({
      default: "redis",
      stores: { redis: bentostore().useL2Layer(redisDriver({ connection: redis })) },
    });
    return {
      get: <T>(key: string, ttlSeconds: number, recompute: () => Promise<T>) =>
        bento.getOrSet({ key, ttl: ttlSeconds * 1000, factory: recompute }) as Promise<T>,
      invalidate: async (key) => void (await bento.delete({ key })),
      close: async () => bento.disconnectAll(),
    };
  },
};
