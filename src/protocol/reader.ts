import type { RedisClient } from "../link/redis-client.js";
import type { RedisLink } from "../link/redis-link.js";
import type { Way } from "./conversation.js";
import type { StoredEntry } from "./entry.js";
import { ENTRY_FIELDS, decodeEntry } from "./entry.js";
import type { KeyNames } from "./key-names.js";

type Fields = readonly (Buffer | null)[];

/** Sends a read of some fields. */
export type Fetch = (client: RedisClient) => Promise<Fields>;

let readers = 0;

/** Reads entries and the states of tags: one HMGET each. */
export class Reader<V> {
  readonly #way: Way;
  readonly #open: (key: string, bytes: Buffer) => V;
  // Caches over one client share the ticks of its link, and each opens values in its own way.
  readonly #id = `${String(++readers)}:`;

  constructor(way: Way, open: (key: string, bytes: Buffer) => V) {
    this.#way = way;
    this.#open = open;
  }

  read(names: KeyNames): Promise<StoredEntry<V>> {
    return this.#way.links.of(names.entry).read(fetchOf(names, ENTRY_FIELDS), this.entryOf(names));
  }

  /** What makes an entry of the fields. */
  entryOf({ key }: KeyNames): (fields: Fields) => StoredEntry<V> {
    return (fields) => decodeEntry(fields, key, this.#open);
  }

  /**
   * Reads for all callers of this tick at once: `send` is called by the first of them.
   *
   * Not for later ones, though the reply is still out: it may stand for a moment before a fence that has resolved since.
   * Within a tick none can have: whatever reply a caller of this tick has seen had left Redis before the tick began, so
   * before the read was sent.
   */
  inTick<T>({ entry, mark }: KeyNames, send: (link: RedisLink) => Promise<T>): Promise<T> {
    const { links, clock } = this.#way;
    const link = links.of(entry);
    const tick = link.tick();
    const id = this.#id + mark + entry;
    const sent = tick.reads.get(id) as Promise<T> | undefined;
    if (sent !== undefined) return sent;
    if (tick.reads.size === 0) clock.sampleIfDue(tick.sentMs);
    const read = send(link);
    tick.reads.set(id, read);
    return read;
  }
}

/** A plain read of these fields. */
export function fetchOf({ entry }: KeyNames, fields: readonly string[]): Fetch {
  return (client) => client.hmgetBuffer(entry, ...fields);
}
