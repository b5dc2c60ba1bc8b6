import type { Contender } from "../contender.js";
import { asyncCacheDedupe } from "./async-cache-dedupe.js";
import { asyncCacheDedupeMemory } from "./async-cache-dedupe-memory.js";
import { bareGet } from "./bare-get.js";
import { bareHmget } from "./bare-hmget.js";
import { bareMap } from "./bare-map.js";
import { bentocache } from "./bentocache.js";
import { bentocacheTiered } from "./bentocache-tiered.js";
import { cacheable } from "./cacheable.js";
import { cacheableTiered } from "./cacheable-tiered.js";
import { cachefence } from "./cachefence.js";
import { cachefenceFrozen } from "./cachefence-frozen.js";
import { cachefenceMemory } from "./cachefence-memory.js";
import { cachified } from "./cachified.js";
import { catbox } from "./catbox.js";
import { coalescing } from "./coalescing.js";
import { lockAndPoll } from "./lock-and-poll.js";
import { lockOnly } from "./lock-only.js";
import { lruCache } from "./lru-cache.js";
import { naive } from "./naive.js";
import { xfetchOnly } from "./xfetch-only.js";

/** What a service would use instead of cachefence, and cachefence: in the order of the tables. */
export const libraries: readonly Contender[] = [
  naive,
  bentocache,
  asyncCacheDedupe,
  cachified,
  cacheable,
  catbox,
  lockAndPoll,
  cachefence,
];

/** Reads with no library around them, which the hit path is measured against. */
export const floors: readonly Contender[] = [bareGet, bareHmget];

/** The two parts of cachefence alone, between nothing and both. */
export const steadyStrategies: readonly Contender[] = [naive, lockOnly, xfetchOnly, cachefence];

/** What a cache does at all, what most libraries do, and cachefence: for the pictures. */
export const basicStrategies: readonly Contender[] = [naive, coalescing, cachefence];

/** With a cache in the memory of the process, in the order of the tables, and cachefence without one. */
export const memoryTiers: readonly Contender[] = [
  lruCache,
  asyncCacheDedupeMemory,
  bentocacheTiered,
  cacheableTiered,
  cachefence,
  cachefenceMemory,
  cachefenceFrozen,
];
