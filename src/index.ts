export { CacheFence } from "./cache-fence.js";
export {
  CacheFenceError,
  RecomputeError,
  RecomputeTimeoutError,
  RedisUnavailableError,
  SerializationError,
} from "./errors.js";
export type { CacheFenceEvents, CacheFenceStats } from "./events.js";
export type { CacheFenceOptions, GetOrSetOptions, ServeOptions } from "./options.js";
export type { RecomputeContext } from "./call/recompute.js";
export type { RedisClient } from "./link/redis-client.js";
