import { isCrossSlot, isWrongType, kindOf } from "../link/replies.js";
import type { MemoryStore } from "../options.js";
import type { Conversation, Way } from "../protocol/conversation.js";
import type { KeyNames } from "../protocol/key-names.js";
import type { Read } from "../protocol/reader.js";
import { enlist } from "../protocol/scripts.js";
import type { Runtime } from "../runtime.js";
import type { Lease } from "./leases.js";
import { Leases } from "./leases.js";

const MOST_STORE_KEYS = 20_000;

/** What a store of the user's holds: what was read, as long as its lease is good. */
class Copy {
  readonly content: unknown;
  readonly lease: Lease;
  /** Whose way of opening values it was read in. */
  readonly reader: unknown;

  constructor(content: unknown, lease: Lease, reader: unknown) {
    this.content = content;
    this.lease = lease;
    this.reader = reader;
  }
}

export interface CopiesOptions {
  readonly store: MemoryStore;
  readonly leaseMs: number;
  /** Copies are shared among the caches that have the same. */
  readonly reader: unknown;
  /** What stands before a key in the name that Redis knows it by. */
  readonly prefix: string;
  readonly onDropped: (key: string) => void;
  /** Called once, where there can be no copies. */
  readonly onUnavailable: (reason: unknown) => void;
}

/** A read that makes a copy. */
export interface Enlisting {
  readonly fetch: Read<unknown>["fetch"];
  /** Keeps what was made of the reply, if nothing was heard of the key meanwhile. */
  readonly keep: (content: unknown) => void;
}

/** The copies that one cache keeps in a store of the user's. */
export class Copies {
  readonly #conversation: Conversation;
  readonly #way: Way;
  readonly #runtime: Runtime;
  readonly #options: CopiesOptions;
  readonly #store: MemoryStore;
  readonly #reader: unknown;
  readonly #leases: Leases;
  // One store may serve caches over several servers, and hold what is not ours.
  readonly #ownPrefix: string;
  readonly #prefix: string;
  // Key -> its name in the store, where a copy was kept: to put a long name together takes a quarter of a hit. All are forgotten
  // when there are many, which costs that again.
  readonly #storeKeys = new Map<string, string>();
  // No copies are made any more; and nothing is served from the store, either.
  #isUnavailable = false;
  #isClosed = false;

  constructor(conversation: Conversation, way: Way, options: CopiesOptions) {
    this.#conversation = conversation;
    this.#way = way;
    this.#runtime = conversation.runtime;
    this.#options = options;
    this.#store = options.store;
    this.#reader = options.reader;
    this.#leases = Leases.of(conversation);
    this.#ownPrefix = `cachefence:${conversation.mailbox.id}:`;
    this.#prefix = this.#ownPrefix + options.prefix;
  }

  /** What this process may serve of the key (of a tag: its state) without asking Redis; undefined if it must ask. */
  get(key: string, nowMs: number, wallMs: number): unknown {
    if (this.#isClosed) return undefined;
    const storeKey = this.#storeKeys.get(key) ?? this.#prefix + key;
    try {
      const found = this.#store.get(storeKey);
      if (!(found instanceof Copy) || found.reader !== this.#reader) return undefined;
      if (found.lease.isGood(nowMs, wallMs)) return found.content;
      this.#store.delete(storeKey);
    } catch (error) {
      this.#storeFailed(error);
    }
    return undefined;
  }

  /**
   * A read that makes a copy, where the key is worth one and its fences would reach this process; else undefined.
   *
   * It is kept iff no message about the key has arrived since the read was sent, for that may have overtaken the reply.
   */
  enlisting(names: KeyNames, fields: readonly string[]): Enlisting | undefined {
    if (this.#isUnavailable || this.#hasNoWay()) return undefined;
    const lease = this.#leases.begin(names, this.#way, this.#options.leaseMs, this);
    if (lease === undefined) return undefined;
    const { client, mailbox, scripts } = this.#conversation;
    const storeKey = this.#ownPrefix + names.redisKey;
    const args = [`c${mailbox.id}:${String(lease.lengthMs)}`, String(lease.lengthMs), ...fields];
    return {
      fetch: () =>
        scripts.run(enlist, [names.entry, names.audience], args, true).catch((error: unknown) => {
          lease.recall(false);
          // A key of the user's has the name of the audience, or another application's: no fence could tell of it.
          if (kindOf(error) === "no-reply" || isWrongType(error)) throw error;
          // What stands in the way of a copy does not stand in that of the value.
          if (isCrossSlot(error)) this.#conversation.needsSlots = true;
          else if (isDenied(error)) this.#giveUp(error);
          return client.hmgetBuffer(names.entry, ...fields);
        }) as Promise<(Buffer | null)[]>,
      keep: (content) => {
        if (!lease.isGood(this.#runtime.monotonicMs(), this.#runtime.wallClockMs())) return;
        const copy = new Copy(content, lease, this.#reader);
        lease.onRecall = (byFence) => {
          try {
            if (this.#store.get(storeKey) === copy) this.#store.delete(storeKey);
          } catch (error) {
            // What it still holds is recalled all the same.
            this.#storeFailed(error);
          }
          if (byFence) this.#options.onDropped(names.key);
        };
        try {
          this.#store.set(storeKey, copy);
        } catch (error) {
          this.#storeFailed(error);
          return;
        }
        if (this.#storeKeys.size >= MOST_STORE_KEYS) this.#storeKeys.clear();
        this.#storeKeys.set(storeKey.slice(this.#prefix.length), storeKey);
      },
    };
  }

  /** Drops what it has made, serves nothing that others have, and makes no more. */
  close(): void {
    this.#isUnavailable = this.#isClosed = true;
    this.#leases.dropAllOf(this);
  }

  /** A newer entry of the key is known: the copy is as good as before, but not as new. */
  forget(names: KeyNames): void {
    this.#leases.drop(names.redisKey, false);
  }

  /** A store of the user's that throws is used no more: no value and no fence is worth less for it. */
  #storeFailed(error: unknown): void {
    this.#isClosed = true;
    this.#giveUp(error);
  }

  #hasNoWay(): boolean {
    const { client, mailbox, deniesScripting } = this.#conversation;
    if (client.status === undefined || client.evalshaBuffer === undefined || client.evalBuffer === undefined) {
      return this.#giveUp(new TypeError("This client's connection cannot be seen, nor its scripts answer in bytes"));
    }
    if (deniesScripting) return this.#giveUp(new Error("The server denies scripting"));
    if (!this.#leases.mayConfirm) return this.#giveUp(new Error("The server denies PUBLISH"));
    if (mailbox.isLive) return false;
    if (mailbox.isDenied) return this.#giveUp(new Error("The server denies pub/sub"));
    void mailbox.ready();
    return true;
  }

  /** For good: a server that allows it tomorrow has new connections, and this cache has new processes. */
  #giveUp(reason: unknown): true {
    if (!this.#isUnavailable) this.#options.onUnavailable(reason);
    this.#isUnavailable = true;
    return true;
  }
}

/** The server allows this user no scripts, or not what the script does; a key that is denied says nothing of others. */
function isDenied(error: unknown): boolean {
  if (kindOf(error) === "scripting-denied") return true;
  return kindOf(error) === "key" && /\b(?:command|zadd|pexpire)\b/i.test(String(error));
}
