import { LRUCache } from "lru-cache";
import type { Contender } from "../contender.js";
import { FENCE_PROMISE, cachefenceVersion, openCacheFence } from "./open-cachefence.js";

export const cachefenceMemory: Contender = {
  module: import.meta.url,
  name: "cachefence, own",
  version: cachefenceVersion,
  configuration:
    "new CacheFence(ioredis, { memory: new LRUCache({ max: 10_000 }) }): an object of its own for each caller",
  promise: FENCE_PROMISE,
  open: (url) => openCacheFence(url, { memory: new LRUCache<string, object>({ max: 10_000 }) }),
};
