import type { CacheFence } from "./cache-fence.js";
import { Settled } from "./call/batch.js";
import type { CachedEntry, DefinedOptions, DefinitionBase, ManyDefinition, OneDefinition } from "./call/definition.js";
import type { RecomputeContext } from "./call/recompute.js";
import type { GetOrSetOptions } from "./options.js";
import { requireObject } from "./checks.js";
import { checkDefinedOptions, checkDefinition, checkRecompute, checkReturnedTtl, checkTtl } from "./options.js";

/** A definition, ready for use. */
export class Defined<A, T> {
  readonly #cache: CacheFence;
  readonly #definition: OneDefinition<A, T> | ManyDefinition<A, T>;
  readonly #options: Omit<GetOrSetOptions<T>, "tags" | "signal">;

  /** @internal */
  constructor(cache: CacheFence, definition: OneDefinition<A, T> | ManyDefinition<A, T>) {
    requireObject("definition", definition);
    const { key, ttl, tags, recompute, recomputeMany, ...options } = definition;
    checkTtl(ttl);
    checkRecompute(key, "key");
    if ((recompute === undefined) === (recomputeMany === undefined)) {
      throw new TypeError("Expected `recompute` or `recomputeMany`, one of the two");
    }
    checkRecompute(recompute ?? recomputeMany, recomputeMany === undefined ? "recompute" : "recomputeMany");
    checkDefinition(options, tags);
    this.#cache = cache;
    this.#definition = definition;
    this.#options = options;
  }

  /** The key of this argument. */
  key(arg: A): string {
    return this.#definition.key(arg);
  }

  /** {@link CacheFence.getOrSet} */
  async get(arg: A, options?: DefinedOptions): Promise<T> {
    checkDefinedOptions(options);
    const { recompute } = this.#definition;
    if (recompute === undefined) return (await this.getMany([arg], options)).get(arg) as T;
    const ttl = this.#ttlOf(arg);
    return this.#cache.getOrSet(this.key(arg), ttl, (context) => recompute(arg, context), {
      ...this.#options,
      ...options,
      tags: this.#tagsOf(arg),
    });
  }

  /** {@link CacheFence.getOrSetMany} */
  async getMany(args: Iterable<A>, options?: DefinedOptions): Promise<Map<A, T>> {
    checkDefinedOptions(options);
    const { ttl, recompute, recomputeMany } = this.#definition;
    const many = recomputeMany ?? ((missing: A[], context: RecomputeContext) => eachOf(missing, context, recompute));
    return this.#cache.getOrSetMany<A, T>(args, (arg) => this.key(arg), ttl, many, {
      ...this.#options,
      ...options,
      tags: (arg) => this.#tagsOf(arg),
    });
  }

  /** {@link CacheFence.set}; {@link CacheFence.invalidate}, where `ttl` says of this value that it is not to be cached. */
  async set(arg: A, value: T): Promise<void> {
    const { ttl } = this.#definition;
    const { staleFor } = this.#options;
    const seconds = typeof ttl === "number" ? ttl : checkReturnedTtl(ttl(value, arg));
    if (seconds === 0) return this.invalidate(arg);
    return this.#cache.set(this.key(arg), seconds, value, { tags: this.#tagsOf(arg), staleFor });
  }

  /** {@link CacheFence.invalidate} */
  async invalidate(...args: readonly A[]): Promise<void> {
    return this.#cache.invalidate(args.map((arg) => this.key(arg)));
  }

  /** {@link CacheFence.peek} */
  async peek(arg: A): Promise<CachedEntry<T> | undefined> {
    return this.#cache.peek<T>(this.key(arg), { tags: this.#tagsOf(arg) });
  }

  #ttlOf(arg: A): number | ((value: T) => number) {
    const { ttl } = this.#definition;
    return typeof ttl === "number" ? ttl : (value) => ttl(value, arg);
  }

  #tagsOf(arg: A): readonly string[] {
    const { tags = [] } = this.#definition as DefinitionBase<A, T>;
    return typeof tags === "function" ? tags(arg) : tags;
  }
}

/** One call for each item, all at once; the failure of one is that of its item alone. */
async function eachOf<A, T>(
  missing: readonly A[],
  context: RecomputeContext,
  recompute: OneDefinition<A, T>["recompute"],
): Promise<T[]> {
  const made = await Promise.allSettled(missing.map(async (arg) => recompute(arg, context)));
  // No T; but it is known to whoever gives out the answers.
  return made.map((result) => new Settled(result) as T);
}
