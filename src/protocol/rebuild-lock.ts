import { CacheFenceError } from "../errors.js";
import type { Entry } from "./entry.js";
import { encodeEntry } from "./entry.js";
import type { EntryReader } from "./entry-reader.js";
import type { GuardedWrite } from "./guarded-write.js";
import type { GuardedWriter } from "./guarded-writer.js";
import type { KeyNames } from "./key-names.js";
import { concernsTheKey } from "../link/redis-link.js";
import type { RedisLinks } from "../link/redis-links.js";
import type { CancelTimer, Runtime } from "../runtime.js";

/**
 * Proof of who holds a lock: the lock's whole value.
 *
 * A claim draws one at random; a takeover adds a mark to the one that it takes over. That decides:
 * - who may store: whoever's token the lock begins with, so its holder and those whom it was taken from: the first of them
 *   to finish is stored. An invalidate, a set, a store or the end of a lease drops the lock, so no late rebuild slips past
 *   them. Nor does a taker's, if a claim or takeover before its own, whose reply was lost, is sent again after the fence:
 *   what that brings back is not the taker's token, and does not go on with it;
 * - who may renew and release: only the one whose token it is, so a taker's lock is safe from the one it was taken from.
 *
 * A source that hangs would have the lock grow for ever. So of a long one only the last mark is replaced: the first to have
 * begun may still store, and whoever holds it; who came in between is refused.
 */
export type Token = string & { readonly brand: "token" };

// Tells our tokens from Python's, which are bare hex.
const OURS = "cachefence:";
const RELEASE_RETRY_MS = 100;
// Random hex digits of a mark: processes that take over the same lock at the same time must not draw the same.
const MARK_LENGTH = 12;
const MOST_MARKS = 64;
const LONGEST_TAKEN = OURS.length + 32 + (MOST_MARKS - 1) * (1 + MARK_LENGTH);

/** What a claim found: the lock first, then the entry, so that what an earlier holder has stored need not be rebuilt. */
export interface Claim {
  readonly token: Token;
  /** The value of the lock; the claim was won iff it is the token. undefined: it came free just after the claim was lost. */
  readonly held: string | undefined;
  readonly entry: Entry | undefined;
}

export interface LockView {
  /** The value of the lock; undefined if it is free. */
  readonly held: string | undefined;
  /** Until Redis drops it by itself, if nobody renews it. */
  readonly leaseLeftMs: number;
  readonly entry: Entry | undefined;
}

/** The rebuild lock of every key: claimed, renewed, released and taken over by token only. */
export class RebuildLock {
  readonly #links: RedisLinks;
  readonly #writer: GuardedWriter;
  readonly #reader: EntryReader;
  readonly #runtime: Runtime;
  readonly #leaseMs: number;

  constructor(links: RedisLinks, writer: GuardedWriter, reader: EntryReader, runtime: Runtime, leaseMs: number) {
    this.#links = links;
    this.#writer = writer;
    this.#reader = reader;
    this.#runtime = runtime;
    this.#leaseMs = leaseMs;
  }

  /**
   * Tries to take a free lock and reads the entry, in one trip. Who holds it is asked rather than taken from the reply of
   * SET: a command whose reply was lost is sent again, and SET NX then fails against our own lock.
   */
  async claim(names: KeyNames): Promise<Claim> {
    const token = this.#draw();
    let sent: Promise<unknown> | undefined;
    try {
      const [, held, entry] = await Promise.all([
        this.#links.of(names.entry).send((client) => (sent = client.set(names.lock, token, "PX", this.#leaseMs, "NX"))),
        this.#links.of(names.entry).send((client) => client.get(names.lock)),
        this.#reader.read(names.entry),
      ]);
      return { token, held: held ?? undefined, entry };
    } catch (error) {
      this.#undo(names, token, sent);
      throw error;
    }
  }

  /** Frees what a failed attempt may have taken, or may take later: once the client has done with its command. */
  #undo(names: KeyNames, token: Token, sent: Promise<unknown> | undefined): void {
    const free = (): void => void this.release(names, token).catch(ignore);
    sent?.then(free, (error: unknown) => {
      // Of a key that it may not touch nothing was taken. Any other error may answer a command that was sent again after
      // the first had taken the lock.
      if (!(error instanceof Error && concernsTheKey(error))) free();
    });
  }

  /** Who holds the lock, for how long, and whether there is an entry by now. */
  async look(names: KeyNames): Promise<LockView> {
    const [held, leaseLeftMs, entry] = await Promise.all([
      this.#links.of(names.entry).send((client) => client.get(names.lock)),
      this.#links.of(names.entry).send((client) => client.pttl(names.lock)),
      this.#reader.read(names.entry),
    ]);
    if (held !== null && isNobodysLease(leaseLeftMs)) throw foreignKey(names.lock, "string", names.key);
    return { held: held ?? undefined, leaseLeftMs: Number(leaseLeftMs), entry };
  }

  /** True if the holder publishes when it is done. Python's does not. */
  publishes(held: string): boolean {
    return held.startsWith(OURS);
  }

  /** The token of whoever takes this lock over. A Python holder's is not added to: it says that nobody publishes. */
  successorOf(held: string): Token {
    if (!this.publishes(held)) return this.#draw();
    return `${held.slice(0, LONGEST_TAKEN)}:${this.#runtime.token().slice(-MARK_LENGTH)}` as Token;
  }

  #draw(): Token {
    return (OURS + this.#runtime.token()) as Token;
  }

  /** Replaces exactly the value that was waited for, so of all waiters one succeeds; true if it was this one. */
  async takeOver(names: KeyNames, held: string, successor: Token): Promise<boolean> {
    const write: GuardedWrite = {
      names,
      condition: { is: held },
      writes: [{ verb: "set", on: "lock", args: [successor, "PX", String(this.#leaseMs)] }],
    };
    let sent: Promise<unknown> | undefined;
    try {
      return (await this.#links.of(names.entry).send((client) => (sent = this.#writer.run(client, write)))) === "done";
    } catch (error) {
      this.#undo(names, successor, sent);
      throw error;
    }
  }

  /**
   * Renews the lease every third of its length until it is stopped or lost. A renewal that Redis does not answer is tried
   * again in its turn.
   */
  keep(names: KeyNames, token: Token, onLost: () => void): CancelTimer {
    let isStopped = false;
    let cancel: CancelTimer;
    const renew = async (): Promise<void> => {
      const write: GuardedWrite = {
        names,
        condition: { is: token },
        writes: [{ verb: "pexpire", on: "lock", args: [String(this.#leaseMs)] }],
      };
      const outcome = await this.#links
        .of(names.entry)
        .send((client) => this.#writer.run(client, write))
        .catch(() => undefined);
      if (isStopped) return;
      if (outcome === "refused") onLost();
      else schedule();
    };
    const schedule = (): void => {
      cancel = this.#runtime.startTimer(this.#leaseMs / 3, false, () => void renew());
    };
    schedule();
    return () => {
      isStopped = true;
      cancel();
    };
  }

  /**
   * Stores the entry and frees the lock, if that begins with this token. Handed over even during an outage: the fence
   * makes a late store safe.
   */
  async store(names: KeyNames, token: Token, entry: Entry, keepMs: number): Promise<boolean> {
    const store: GuardedWrite = {
      names,
      condition: { beginsWith: token },
      writes: [...entryWrites(entry, keepMs), { verb: "del", on: "lock", args: [] }],
      news: "stored",
    };
    // Given up by the client: then the caller has been told, and frees the lock.
    const outcome = await this.#links.of(names.entry).deliver((client) => this.#writer.run(client, store), ignore);
    if (outcome === "foreign") throw await this.foreignKeyError(names);
    return outcome === "done";
  }

  /**
   * Frees the lock, if it is still exactly this holder's, and wakes the waiters; true if it was. If the client gives it
   * up (no offline queue, no retries left), it is tried again until the lease has ended the lock anyway.
   */
  async release(
    names: KeyNames,
    token: Token,
    untilMs = this.#runtime.monotonicMs() + this.#leaseMs,
  ): Promise<boolean> {
    const write: GuardedWrite = {
      names,
      condition: { is: token },
      writes: [{ verb: "del", on: "lock", args: [] }],
      news: "freed",
    };
    const retry = (): void => {
      if (this.#runtime.monotonicMs() >= untilMs) return;
      this.#runtime.startTimer(RELEASE_RETRY_MS, false, () => void this.release(names, token, untilMs).catch(ignore));
    };
    return (await this.#links.of(names.entry).deliver((client) => this.#writer.run(client, write), retry)) === "done";
  }

  /** The fence of `set`: whatever rebuild is in flight, its store is refused from here on. */
  async overwrite(names: KeyNames, entry: Entry, keepMs: number): Promise<void> {
    await this.#fence(names, [...entryWrites(entry, keepMs), { verb: "del", on: "lock", args: [] }], "stored");
  }

  /** The fence of `invalidate`. */
  async remove(names: KeyNames): Promise<void> {
    await this.#fence(
      names,
      [
        { verb: "del", on: "entry", args: [] },
        { verb: "del", on: "lock", args: [] },
      ],
      "freed",
    );
  }

  /** The error of a key, or of its lock's name, that holds something else than cachefence writes there. */
  async foreignKeyError(names: KeyNames): Promise<CacheFenceError> {
    const [lock, leaseLeftMs, entry] = await Promise.all([
      this.#links.of(names.entry).send((client) => client.type(names.lock)),
      this.#links.of(names.entry).send((client) => client.pttl(names.lock)),
      this.#links.of(names.entry).send((client) => client.type(names.entry)),
    ]);
    const isLockOurs = lock === "none" || (lock === "string" && !isNobodysLease(leaseLeftMs));
    return isLockOurs ? foreignKey(names.entry, entry, names.key) : foreignKey(names.lock, lock, names.key);
  }

  async #fence(names: KeyNames, writes: GuardedWrite["writes"], news: "stored" | "freed"): Promise<void> {
    const outcome = await this.#links
      .of(names.entry)
      .send((client) => this.#writer.run(client, { names, condition: "any", writes, news }));
    if (outcome === "foreign") throw await this.foreignKeyError(names);
  }
}

function entryWrites(entry: Entry, keepMs: number): GuardedWrite["writes"] {
  return [
    { verb: "hset", on: "entry", args: encodeEntry(entry) },
    { verb: "pexpire", on: "entry", args: [String(keepMs)] },
  ];
}

// Every lock of cachefence has a lease: a string without one (PTTL -1) is somebody's own.
function isNobodysLease(pttl: unknown): boolean {
  return Number(pttl) === -1;
}

function foreignKey(redisKey: string, type: string, key: string): CacheFenceError {
  const message = `Redis key ${JSON.stringify(redisKey)} holds a ${type} that is not cachefence's; it was left as it is`;
  return new CacheFenceError(message, key);
}

// For a promise whose failure is dealt with elsewhere, or costs no more than a lease.
function ignore(): void {
  // On purpose.
}
