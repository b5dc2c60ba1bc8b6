import type { Way } from "./conversation.js";
import { foreignKeyError } from "./foreign-keys.js";
import type { KeyNames } from "./key-names.js";

// A new state outlasts any recompute; a store makes it outlast its entry.
const NEW_STATE_MS = 3_600_000;

/**
 * The states of tags. A state is a random text that any reader makes if it is missing. An entry holds those that its
 * recompute began with, and is valid only for a reader that finds the same. So a tag that is invalidated (its state is
 * removed) takes all its entries with it, and those that are being rebuilt; and so does one that expires or is evicted.
 */
export class Tags {
  readonly #way: Way;

  constructor(way: Way) {
    this.#way = way;
  }

  /** The tag's state, made if it is missing. */
  async make(names: KeyNames): Promise<string> {
    const link = this.#way.links.of(names.entry);
    const state = await link.send(() => this.#way.steps.tag(names, undefined, NEW_STATE_MS));
    if (state === "foreign") throw await foreignKeyError(link, names);
    return state;
  }

  /** Lets the state outlast an entry that has it. If it fails, the entry is a miss sooner. */
  keep(names: KeyNames, state: string, keepMs: number): void {
    this.#way.links
      .of(names.entry)
      .send(() => this.#way.steps.tag(names, state, keepMs + NEW_STATE_MS))
      .catch(() => undefined);
  }
}
