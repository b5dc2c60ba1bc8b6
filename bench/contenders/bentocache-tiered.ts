import { BentoCache, bentostore } from "bentocache";
import { memoryDriver } from "bentocache/drivers/memory";
import { redisBusDriver, redisDriver } from "bentocache/drivers/redis";
import { Redis } from "ioredis";
import type { Contender } from "../contender.js";
import { connect } from "./connect.js";
import { installedVersion } from "./installed-version.js";

export const bentocacheTiered: Contender = {
  module: import.meta.url,
  name: "bentocache L1 + L2 + bus",
  version: installedVersion("bentocache"),
  configuration:
    "bentostore().useL1Layer(memoryDriver({ maxItems: 10_000 })).useL2Layer(redisDriver({ connection: ioredis }))" +
    ".useBus(redisBusDriver({ connection: ioredis })), as its documentation recommends for several instances",
  promise: "a message tells the others to drop it",
  async open(url) {
    const redis = await connect(url);
    const busRedis = new Redis(url);
    const bento = new BentoCache({
      default: "tiered",
      stores: {
        tiered: bentostore()
          .useL1Layer(memoryDriver({ maxItems: 10_000 }))
          .useL2Layer(redisDriver({ connection: redis }))
          .useBus(redisBusDriver({ connection: busRedis })),
      },
    });
    return {
      get: <T>(key: string, ttlSeconds: number, recompute: () => Promise<T>) =>
        bento.getOrSet({ key, ttl: ttlSeconds * 1000, factory: recompute }) as Promise<T>,
      invalidate: async (key) => void (await bento.delete({ key })),
      async close() {
        await bento.disconnectAll();
        busRedis.disconnect();
      },
    };
  },
};
