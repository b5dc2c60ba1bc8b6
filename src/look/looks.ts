import type { StoredValue } from "../call/stored-value.js";
import { asError } from "../errors.js";
import type { Callers, Reporter } from "../events.js";
import { RedisFault } from "../link/redis-link.js";
import type { Copies } from "../memory/copies.js";
import type { ResolvedCallOptions, ResolvedOptions } from "../options.js";
import { staleForSeconds } from "../options.js";
import type { Way } from "../protocol/conversation.js";
import type { Entry, StoredEntry } from "../protocol/entry.js";
import { explainForeignType } from "../protocol/foreign-keys.js";
import type { KeyNames, KeyNaming } from "../protocol/key-names.js";
import { tagKeyOf } from "../protocol/key-names.js";
import type { Read, Reader } from "../protocol/reader.js";
import { STATE } from "../protocol/reader.js";
import { Tags } from "../protocol/tags.js";
import type { Runtime } from "../runtime.js";
import type { Found, Look, Looker } from "./found.js";

// No state looks like it, so no entry has it.
const NO_STATE = "?";
const NOTHING: Look = { found: undefined, atHand: undefined };

export interface LooksTools {
  readonly way: Way;
  readonly naming: KeyNaming;
  readonly reader: Reader<StoredValue>;
  readonly copies: Copies | undefined;
  readonly reporter: Reporter;
  readonly runtime: Runtime;
  readonly options: Pick<ResolvedOptions, "perCall" | "throwsOnRedisError">;
}

/**
 * What there is of a key before anybody rebuilds it: in memory, or in Redis, in the eyes of who looks. It is the states of its
 * tags that decide what is there; so they are looked up here, for whoever stores too.
 */
export class Looks {
  readonly #tools: LooksTools;
  readonly #tags: Tags;
  // The read that has found no state -> the one that is made.
  readonly #made = new WeakMap<object, Promise<string>>();

  constructor(tools: LooksTools) {
    this.#tools = tools;
    this.#tags = new Tags(tools.way, tools.runtime);
  }

  /** A copy that may be served, or what Redis has. */
  async look(looker: Looker): Promise<Look> {
    return this.#lookAt(looker, this.copy(looker.key, looker.options)) ?? this.ask(looker);
  }

  /** What Redis has. */
  ask(looker: Looker): Promise<Look> {
    return this.fetch(looker).then(
      (stored) => this.judge(looker, stored),
      (error: unknown) => {
        const look = this.unseen(looker, error);
        if (look instanceof Error) throw look;
        return look;
      },
    );
  }

  /**
   * {@link Looks.look} for each of a list, or why that is not known. What Redis is asked for leaves in one write; those that
   * need no more than a plain read from one server share a promise: with memory, any may be a read that makes a copy. Never
   * rejects, so nobody need wait for it when its caller has left.
   */
  async all(lookers: readonly Looker[]): Promise<(Look | Error)[]> {
    const { way, runtime, reader, copies } = this.#tools;
    const arePlain = copies === undefined && !way.links.areMany;
    const looks: (Look | Error)[] = [];
    const together: number[] = [];
    const alone: Promise<unknown>[] = [];
    const hold = (): void => way.links.any.holdBack();
    // One moment for all: to read both clocks for each is a quarter of what a copy costs. A lease that ends while the list is
    // gone through does no harm: a fence that has waited for it resolves after this call has begun.
    const nowMs = runtime.monotonicMs();
    const wallMs = runtime.wallClockMs();
    lookers.forEach((looker, index) => {
      let copy: Look | undefined;
      try {
        copy = this.#lookAt(looker, copies && this.#copyIn(copies, looker.key, looker.options, nowMs, wallMs));
      } catch (error) {
        // A `staleFor` of the user's that throws.
        looks[index] = asError(error);
        return;
      }
      if (copy !== undefined) looks[index] = copy;
      else if (arePlain && looker.options.tags.length === 0) together.push(index);
      else {
        hold();
        alone.push(
          this.ask(looker)
            .then((look) => (looks[index] = look))
            .catch((error: unknown) => (looks[index] = asError(error))),
        );
      }
    });
    if (together.length > 0) {
      const found: (StoredEntry<StoredValue> | Error)[] = [];
      const names = together.map((index) => lookers[index]!.names);
      hold();
      await reader.all(names, (place, entry) => (found[place] = entry));
      if (!way.clock.isSettled) await way.clock.settle();
      const atSeconds = way.clock.nowSeconds();
      together.forEach((index, place) => {
        const entry = found[place];
        const looker = lookers[index]!;
        try {
          looks[index] = entry instanceof Error ? this.unseen(looker, entry) : this.judge(looker, entry, atSeconds);
        } catch (error) {
          // A `staleFor` of the user's that throws.
          looks[index] = asError(error);
        }
      });
    }
    await Promise.all(alone);
    return looks;
  }

  /** What Redis has, and what the tags stand at, sent at once: in one write, and of one moment. */
  fetch(looker: Looker): Promise<StoredEntry<StoredValue>> {
    const { reader, way, options } = this.#tools;
    const sent = reader.inTick(looker.names, () => this.#readOf(looker.names));
    // Whoever comes in the same tick and is like it forms its crowd. Later each acts for itself.
    if (looker.options === options.perCall && !looker.hasBoarded) sent.first ??= looker;
    const { reading } = sent;
    return looker.options.tags.length === 0 && way.clock.isSettled ? reading : this.#fetchMore(looker, reading);
  }

  async #fetchMore(looker: Looker, reading: Promise<StoredEntry<StoredValue>>): Promise<StoredEntry<StoredValue>> {
    const { tags } = looker.options;
    if (tags.length > 0) [, looker.tags] = await Promise.all([reading, this.tagStates(tags, looker)]);
    const stored = await reading;
    const { clock } = this.#tools.way;
    if (!clock.isSettled) await clock.settle();
    return stored;
  }

  /** What was fetched, in the eyes of this looker. */
  judge(looker: Looker, stored: StoredEntry<StoredValue>, atSeconds = this.#tools.way.clock.nowSeconds()): Look {
    looker.hasLooked = true;
    const { key, options, callers } = looker;
    if (stored === "corrupt") this.#reportCorrupt(key, new TypeError("delta or expiry is no number"), callers);
    if (stored === undefined || stored === "corrupt" || stored.tags !== looker.tags) return NOTHING;
    const found = this.servable(key, stored, options, "redis", atSeconds, callers);
    return { found, atHand: stored };
  }

  /** Redis failing is like finding nothing, unless callers are to know. */
  unseen(looker: Looker, thrown: unknown): Look | Error {
    looker.hasLooked = true;
    const error = asError(thrown);
    if (!(error instanceof RedisFault)) return error;
    const fault = (looker.fault = error.toError(looker.key));
    looker.tags = looker.options.tags.length === 0 ? "" : undefined;
    if (!this.#tools.options.throwsOnRedisError) return NOTHING;
    this.reportFault(looker);
    return fault;
  }

  /** Tells of what the last look came to, if nobody has yet. */
  reportFault(looker: Looker): void {
    if (looker.fault === undefined) return;
    this.#tools.reporter.report("cachefence:redis-error", { key: looker.key, error: looker.fault }, looker.callers);
    looker.fault = undefined;
  }

  /** What this process may serve without asking Redis. */
  copy(key: string, options: ResolvedCallOptions): Found | undefined {
    const { copies, runtime } = this.#tools;
    if (copies === undefined) return undefined;
    return this.#copyIn(copies, key, options, runtime.monotonicMs(), runtime.wallClockMs());
  }

  /** A copy as a look: whoever is served it has seen what its tags stood at. */
  #lookAt(looker: Looker, copy: Found | undefined): Look | undefined {
    if (copy === undefined) return undefined;
    looker.tags = copy.entry.tags;
    return { found: copy, atHand: copy.entry };
  }

  #copyIn(copies: Copies, key: string, options: ResolvedCallOptions, nowMs: number, wallMs: number): Found | undefined {
    const entry = copies.get(key, nowMs, wallMs) as Entry<StoredValue> | undefined;
    if (entry === undefined) return undefined;
    let tags = "";
    for (const tag of options.tags) {
      const state = copies.get(tagKeyOf(tag), nowMs, wallMs) as string | undefined;
      if (state === undefined) return undefined;
      tags = tags === "" ? state : `${tags},${state}`;
    }
    if (entry.tags !== tags) return undefined;
    return this.servable(key, entry, options, "memory", this.#tools.way.clock.secondsAt(nowMs));
  }

  /** The value, if it can be read and is not too old even for this call's `staleFor`. */
  servable(
    key: string,
    entry: Entry<StoredValue>,
    { staleFor }: ResolvedCallOptions,
    source: "memory" | "redis",
    atSeconds: number,
    callers?: Callers,
  ): Found | undefined {
    let value: unknown;
    try {
      value = entry.value.take();
    } catch (error) {
      this.#reportCorrupt(key, error, callers);
      return undefined;
    }
    const servableUntilSeconds =
      staleFor === 0 ? entry.expirySeconds : entry.expirySeconds + staleForSeconds(staleFor, value);
    return atSeconds < servableUntilSeconds ? { entry, value, source, servableUntilSeconds, atSeconds } : undefined;
  }

  /** What the tags stand at, as entries hold it: made where it is missing, but for whoever only looks. Sent all at once. */
  async tagStates(
    tags: readonly string[],
    { isOnlyLooking, hold }: Partial<Pick<Looker, "isOnlyLooking" | "hold">> = {},
  ): Promise<string> {
    if (tags.length === 0) return "";
    const { copies, runtime, naming, reader, way } = this.#tools;
    const states = await Promise.all(
      tags.map(async (tag) => {
        const names = naming.tagNamesOf(tag);
        const copied = copies?.get(tagKeyOf(tag), runtime.monotonicMs(), runtime.wallClockMs());
        // An entry, where a key of the user's has the name of the state: that is found out below.
        if (typeof copied === "string") return copied;
        try {
          const read = (): Read<string> => this.#keeping(names, STATE, isState);
          const sent = reader.inTick(names, read);
          const state = await sent.reading;
          if (state !== "") return state;
          if (isOnlyLooking === true) return NO_STATE;
          hold?.();
          // One for all that read it in the same tick: none of them can have seen a fence that this comes before.
          const made = this.#made.get(sent) ?? this.#tags.make(names);
          this.#made.set(sent, made);
          return await made;
        } catch (error) {
          throw await explainForeignType(error, way, names);
        }
      }),
    );
    return states.join(",");
  }

  /** Lets the states of the tags outlast an entry that is stored with them. */
  keepTags(tags: readonly string[], states: string, keepMs: number): void {
    if (tags.length === 0) return;
    const { naming } = this.#tools;
    const each = states.split(",");
    for (const [index, tag] of tags.entries()) this.#tags.keep(naming.tagNamesOf(tag), each[index] ?? "", keepMs);
  }

  #readOf(names: KeyNames): Read<StoredEntry<StoredValue>> {
    return this.#keeping(names, this.#tools.reader.entry, isReadyToKeep);
  }

  /** A read; where the key is worth a copy, one that makes it. */
  #keeping<T>(names: KeyNames, read: Read<T>, isKept: (content: T) => boolean): Read<T> {
    const enlisting = this.#tools.copies?.enlisting(names, read.fields);
    if (enlisting === undefined) return read;
    return {
      ...read,
      fetch: enlisting.fetch,
      decode: (reply) => {
        const content = read.decode(reply, names);
        if (isKept(content)) enlisting.keep(content);
        return content;
      },
    };
  }

  #reportCorrupt(key: string, error: unknown, callers?: Callers): void {
    this.#tools.reporter.report("cachefence:corrupt-entry", { key, error }, callers);
  }
}

/** Makes an entry ready for many callers. */
function isReadyToKeep(stored: StoredEntry<StoredValue>): boolean {
  if (typeof stored !== "object") return false;
  stored.value.settle();
  return true;
}

function isState(read: string): boolean {
  return read !== "";
}
