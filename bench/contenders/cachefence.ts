import type { Contender } from "../contender.js";
import { FENCE_PROMISE, cachefenceVersion, openCacheFence } from "./open-cachefence.js";

export const cachefence: Contender = {
  module: import.meta.url,
  name: "cachefence",
  version: cachefenceVersion,
  configuration: "new CacheFence(ioredis), all options at their defaults",
  promise: FENCE_PROMISE,
  open: (url) => openCacheFence(url),
};
