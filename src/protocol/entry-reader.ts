import type { Entry } from "./entry.js";
import { decodeEntry } from "./entry.js";
import type { KeyNaming } from "./key-names.js";
import type { RedisLink } from "../link/redis-link.js";
import type { RedisLinks } from "../link/redis-links.js";
import type { ServerClock } from "../link/server-clock.js";

export type StoredEntry = Entry | "corrupt" | undefined;

/** Reads entries: one HMGET each. */
export class EntryReader {
  readonly #links: RedisLinks;
  readonly #clock: ServerClock;
  readonly #naming: KeyNaming;

  constructor(links: RedisLinks, clock: ServerClock, naming: KeyNaming) {
    this.#links = links;
    this.#clock = clock;
    this.#naming = naming;
  }

  /** What cannot be read is no answer to anybody: it is like none. */
  read(entryKey: string): Promise<Entry | undefined> {
    return hmget(this.#links.of(entryKey), entryKey, (fields) => {
      const stored = decodeEntry(fields);
      return stored === "corrupt" ? undefined : stored;
    });
  }

  /**
   * Reads for all callers of this tick at once, and tells what is there but cannot be read.
   *
   * Not for later ones, though the reply is still out: it may stand for a moment before an `invalidate` that has resolved
   * since. Within a tick none can have: whatever reply a caller of this tick has seen had left Redis before the tick began,
   * so before the read was sent.
   */
  readInTick(key: string): Promise<StoredEntry> {
    const entryKey = this.#naming.entryOf(key);
    const link = this.#links.of(entryKey);
    const tick = link.tick();
    const sent = tick.reads.get(key) as Promise<StoredEntry> | undefined;
    if (sent !== undefined) return sent;
    if (tick.reads.size === 0) this.#clock.sampleIfDue(tick.sentMs);
    const read = hmget(link, entryKey, decodeEntry);
    tick.reads.set(key, read);
    return read;
  }
}

function hmget<T>(link: RedisLink, entryKey: string, decode: (fields: (Buffer | null)[]) => T): Promise<T> {
  return link.read((client) => client.hmgetBuffer(entryKey, "v", "delta", "expiry"), decode);
}
