export { CacheFence } from "./cache-fence.js";
export type { Many } from "./call/batch.js";
export type { CachedEntry, DefinedOptions, DefinitionBase, ManyDefinition, OneDefinition } from "./call/definition.js";
export type { Defined } from "./defined.js";
export type { RecomputeContext } from "./call/recompute.js";
export {
  CacheFenceError,
  RecomputeError,
  RecomputeTimeoutError,
  RedisUnavailableError,
  SerializationError,
} from "./errors.js";
export type { CacheFenceEvents, CacheFenceStats } from "./events.js";
export type { RedisClient } from "./link/redis-client.js";
export type {
  CacheFenceOptions,
  GetOrSetManyOptions,
  GetOrSetOptions,
  IdleOptions,
  MemoryStore,
  PeekOptions,
  ServeOptions,
  SetOptions,
} from "./options.js";
