import type { Contender } from "../contender.js";
import { cachefenceVersion, openCacheFence } from "./open-cachefence.js";

export const lockOnly: Contender = {
  module: import.meta.url,
  name: "lock only",
  version: `cachefence ${cachefenceVersion}`,
  configuration: "new CacheFence(ioredis, { beta: 0 }): the lock without early refresh",
  open: (url) => openCacheFence(url, { beta: 0 }),
};
