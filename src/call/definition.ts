import type { GetOrSetOptions } from "../options.js";
import type { Many } from "./batch.js";
import type { RecomputeContext } from "./recompute.js";

/** What both kinds of definition have. */
export interface DefinitionBase<A, T> extends Omit<GetOrSetOptions<NoInfer<T>>, "tags" | "signal"> {
  /** The key of an argument. Its parameter says what an argument is. */
  readonly key: (arg: A) => string;
  /** Lifetime in seconds, or a function that takes it from the value: as in `getOrSet`. */
  readonly ttl: number | ((value: NoInfer<T>, arg: NoInfer<A>) => number);
  /** The groups of all entries, or of each. */
  readonly tags?: readonly string[] | ((arg: NoInfer<A>) => readonly string[]) | undefined;
}

/** A definition with a function for one. `getMany` calls it once for each item that is missing. */
export interface OneDefinition<A, T> extends DefinitionBase<A, T> {
  readonly recompute: (arg: A, context: RecomputeContext) => T | PromiseLike<T>;
  readonly recomputeMany?: undefined;
}

/** A definition with a function for many. `get` asks it for one. */
export interface ManyDefinition<A, T> extends DefinitionBase<A, T> {
  readonly recomputeMany: (args: A[], context: RecomputeContext) => Many<A, T> | PromiseLike<Many<A, T>>;
  readonly recompute?: undefined;
}

/** What a definition is called with: its options but for those that say what and how long. */
export type DefinedOptions = Pick<GetOrSetOptions, "signal">;

/** A value with what is known of it: for `Age`, `Cache-Control` and `Cache-Status`. */
export interface CachedEntry<T> {
  readonly value: T;
  /** Until its expiry, in seconds; negative past it. */
  readonly remaining: number;
  /** How long its recompute took, in seconds. */
  readonly delta: number;
  /**
   * `"memory"` and `"redis"`: found valid there; `"rebuild"`: this call waited for one, here or elsewhere; `"stale"`: past its
   * expiry, within `staleFor`; `"source"`: recomputed without Redis.
   */
  readonly source: "memory" | "redis" | "rebuild" | "stale" | "source";
}
