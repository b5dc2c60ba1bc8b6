import type { Read as LinkRead } from "../link/redis-link.js";
import type { SharedRead, Tick } from "../link/ticks.js";
import type { Way } from "./conversation.js";
import type { StoredEntry } from "./entry.js";
import { ENTRY_FIELDS, decodeEntry } from "./entry.js";
import type { KeyNames } from "./key-names.js";

type Fields = readonly (Buffer | null)[];

/** A read of some fields of a key's hash, and what makes sense of its reply. */
export interface Read<T> extends LinkRead<KeyNames, Fields, T> {
  readonly fields: readonly string[];
}

/** The state of a tag; "" if it is missing. */
export const STATE: Read<string> = {
  fields: ["state"],
  fetch: (client, { entry }) => client.hmgetBuffer(entry, "state"),
  decode: ([state]) => (state == null ? "" : state.toString()),
};

/** Reads entries and the states of tags: one HMGET each. */
export class Reader<V> {
  readonly #way: Way;
  /** A key's entry. */
  readonly entry: Read<StoredEntry<V>>;

  constructor(way: Way, open: (key: string, bytes: Buffer) => V) {
    this.#way = way;
    this.entry = {
      fields: ENTRY_FIELDS,
      // Spelt out: spread, they take longer.
      fetch: (client, { entry }) => client.hmgetBuffer(entry, "v", "delta", "expiry", "tags"),
      decode: (fields, { key }) => decodeEntry(fields, key, open),
    };
  }

  read(names: KeyNames): Promise<StoredEntry<V>> {
    return this.#way.links.of(names.entry).read(this.entry, names);
  }

  /**
   * Reads for all callers of this tick at once: `read` is called by the first of them.
   *
   * Not for later ones, though the reply is still out: it may stand for a moment before a fence that has resolved since.
   * Within a tick none can have: whatever reply a caller of this tick has seen had left Redis before the tick began, so
   * before the read was sent.
   */
  inTick<T>(names: KeyNames, read: () => Read<T>): SharedRead<T> {
    const { entry, mark } = names;
    const link = this.#way.links.of(entry);
    const tick = link.tick();
    const sent = tick.reads.get(entry);
    if (this.#isOurs(sent, mark)) return sent as SharedRead<T>;
    this.#sampleClock(tick);
    const reading = link.read(read(), names);
    const added: SharedRead<T> = { reader: this, mark, reading, first: undefined };
    tick.reads.set(entry, added);
    return added;
  }

  /** The first of the calls of this tick that are alike: see {@link SharedRead.first}. */
  firstInTick({ entry, mark }: KeyNames): unknown {
    const sent = this.#way.links.of(entry).tick().reads.get(entry);
    return this.#isOurs(sent, mark) ? sent?.first : undefined;
  }

  // Caches over one client share the ticks of its link, and each opens values in its own way.
  #isOurs(sent: SharedRead | undefined, mark: string): boolean {
    return sent?.reader === this && sent.mark === mark;
  }

  /** Reads many entries of one server: `land` is given each, or what it failed of. */
  async all(names: readonly KeyNames[], land: (index: number, entry: StoredEntry<V> | Error) => void): Promise<void> {
    const link = this.#way.links.any;
    this.#sampleClock(link.tick());
    await link.readAll(this.entry, names, land);
  }

  #sampleClock({ reads, sentMs }: Tick): void {
    if (reads.size === 0) this.#way.clock.sampleIfDue(sentMs);
  }
}
