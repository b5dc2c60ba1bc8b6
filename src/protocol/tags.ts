import type { Way } from "./conversation.js";
import { foreignKeyError } from "./foreign-keys.js";
import type { KeyNames } from "./key-names.js";
import type { Runtime } from "../runtime.js";

// A new state outlasts any recompute; a store makes it outlast its entry.
const NEW_STATE_MS = 3_600_000;
const MOST_KEPT = 10_000;

/** A state that this process has made Redis keep: when, for how long, and over which connection. */
interface Kept {
  readonly state: string;
  readonly sinceMs: number;
  readonly keepMs: number;
  readonly stream: unknown;
}

/**
 * The states of tags. A state is a random text that any reader makes if it is missing. An entry holds those that its
 * recompute began with, and is valid only for a reader that finds the same. So a tag that is invalidated (its state is
 * removed) takes all its entries with it, and those that are being rebuilt; and so does one that expires or is evicted.
 */
export class Tags {
  readonly #way: Way;
  readonly #runtime: Runtime;
  // Tag's key -> what is known of its state. Forgotten when there are many. One that is wrong, for Redis has lost that or time has
  // stood still here, costs its entries sooner.
  readonly #kept = new Map<string, Kept>();

  constructor(way: Way, runtime: Runtime) {
    this.#way = way;
    this.#runtime = runtime;
  }

  /** The tag's state, made if it is missing. */
  async make(names: KeyNames): Promise<string> {
    const link = this.#way.links.of(names.entry);
    const state = await link.send(() => this.#way.steps.tag(names, undefined, NEW_STATE_MS));
    if (state === "foreign") throw await foreignKeyError(link, names);
    return state;
  }

  /**
   * Lets the state outlast an entry that has it, and the recompute of the next. If it fails, the entry is a miss sooner. It is
   * kept for an hour longer than it must be, and asked for again when half of that is over.
   */
  keep(names: KeyNames, state: string, keepMs: number): void {
    const nowMs = this.#runtime.monotonicMs();
    const link = this.#way.links.of(names.entry);
    const { stream } = link.client;
    const there = this.#kept.get(names.entry);
    const isKept = there?.state === state && there.keepMs >= keepMs && nowMs - there.sinceMs < NEW_STATE_MS / 2;
    // Behind a new connection there may be a server that has lost what was asked of the last.
    if (isKept && there.stream === stream) return;
    const kept = { state, sinceMs: nowMs, keepMs, stream };
    if (this.#kept.size >= MOST_KEPT) this.#kept.clear();
    this.#kept.set(names.entry, kept);
    const forget = (): void => {
      if (this.#kept.get(names.entry) === kept) this.#kept.delete(names.entry);
    };
    link
      .send(() => this.#way.steps.tag(names, state, keepMs + NEW_STATE_MS))
      .then((found) => {
        if (found !== state) forget();
      }, forget);
  }
}
