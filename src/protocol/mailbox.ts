import type { OwnConnection } from "../link/own-connection.js";
import { openSubscriber, peerOf } from "../link/own-connection.js";
import type { RedisClient } from "../link/redis-client.js";
import type { CancelTimer, Runtime } from "../runtime.js";
import type { Message } from "./messages.js";
import { channelOf, parseMessage } from "./messages.js";

interface Subscriber extends OwnConnection {
  subscribe(channel: string): Promise<unknown>;
  ping(): Promise<unknown>;
}

/** One client's caches, as the rest of the fleet knows them. */
export interface Member {
  readonly id: string;
  /** True if others can tell from this member's mailbox whether its process lives. Not on a Cluster, which counts per node. */
  readonly showsDeath: boolean;
  /** True if its messages may hold bytes: those of ioredis-mock are text. */
  readonly hearsBytes: boolean;
  nonce(): string;
}

type Hear = (message: Message | undefined) => void;

/** What a first rebuild waits for its mailbox: without one, its own death would not be seen. */
const OPENING_MS = 100;
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1000;
/** A mailbox that was denied is asked for again no sooner. */
const DENIED_MS = 30_000;
const WATCH_MS = 500;
/** Quiet for so many of these, it is asked whether it is still there; and is given up when it has not answered. */
const QUIET_WATCHES = 20;
const SILENT_WATCHES = 26;

/**
 * One mailbox per client: a random member id, and a channel named after it, subscribed to on a connection of its own.
 *
 * Opened by the first miss and kept; when its connection ends it is opened again under the same id, so that what is sent
 * to it finds it. At most once: a message may be lost, so whoever waits for one looks now and then. It ends with the
 * caller's client, which is looked at rather than listened to: nothing of ours stays on it.
 */
export class Mailbox implements Member {
  readonly id: string;
  readonly showsDeath: boolean;
  readonly hearsBytes: boolean;
  readonly #client: RedisClient;
  readonly #runtime: Runtime;
  #state:
    | { readonly kind: "closed"; readonly notBeforeMs: number; readonly isDenied: boolean }
    | { readonly kind: "opening"; readonly subscriber: Subscriber; readonly opened: Promise<void> }
    | { readonly kind: "live"; readonly subscriber: Subscriber; readonly sinceMs: number };
  // Kept open from the first use until `close` or the end of the client.
  #isWanted = false;
  #pauseMs = 0;
  #cancelTimer: CancelTimer | undefined;
  // The server that the client was connected to when it was last looked at.
  #peer: string | undefined;
  // How often it was looked at since anything was heard in it. Counted, not timed: a process that was stopped reads first.
  #quietWatches = 0;
  // Key -> who listens for news of it. `undefined` is told when what was sent may have been lost.
  readonly #ears = new Map<string, Set<Hear>>();
  /** Told of each fence of a key that this member may have a copy of; and of each confirmation. */
  onFenced: (message: Extract<Message, { kind: "fenced" }>) => void = () => undefined;
  onConfirmed: (fence: string, member: string) => void = () => undefined;
  /** Told when the caller's client has ended: nothing of ours is to outlive it. */
  onClientEnd: () => void = () => undefined;

  constructor(client: RedisClient, runtime: Runtime) {
    this.#client = client;
    this.#runtime = runtime;
    this.id = runtime.memberId();
    // ioredis-mock has no status, no bytes in messages, and counts no subscribers.
    const isReal = client.status !== undefined;
    this.hearsBytes = isReal;
    this.showsDeath = isReal && client.isCluster !== true;
    this.#state = { kind: "closed", notBeforeMs: -Infinity, isDenied: false };
  }

  nonce(): string {
    return this.#runtime.nonce();
  }

  get isLive(): boolean {
    return this.#state.kind === "live";
  }

  get isDenied(): boolean {
    return this.#state.kind === "closed" && this.#state.isDenied;
  }

  /** Opens it, if it is not open; resolves when it is live (true) or cannot be, at the latest after a tenth of a second. */
  async ready(): Promise<boolean> {
    this.#isWanted = true;
    if (this.#state.kind === "closed") this.#open();
    if (this.#state.kind !== "opening") return this.isLive;
    const { opened } = this.#state;
    await new Promise<void>((resolve) => {
      const cancel = this.#runtime.startTimer(OPENING_MS, true, resolve);
      void opened.then(() => {
        cancel();
        resolve();
      });
    });
    return this.isLive;
  }

  /** Hears what concerns this key, until the function that is returned is called: true if nobody else does. */
  listen(key: string, hear: Hear): () => boolean {
    const there = this.#ears.get(key);
    if (there === undefined) this.#ears.set(key, new Set([hear]));
    else there.add(hear);
    return () => {
      const ears = this.#ears.get(key);
      ears?.delete(hear);
      if (ears !== undefined && ears.size > 0) return false;
      return this.#ears.delete(key);
    };
  }

  close(): void {
    this.#isWanted = false;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (this.#state.kind !== "closed") this.#state.subscriber.disconnect();
  }

  #open(): void {
    const nowMs = this.#runtime.monotonicMs();
    if (this.#state.kind !== "closed" || nowMs < this.#state.notBeforeMs || this.#client.status === "end") return;
    let subscriber: Subscriber;
    try {
      subscriber = openSubscriber(this.#client, OPENING_TIMEOUT_MS) as Subscriber;
    } catch {
      // A client that cannot be duplicated: its waiters look instead.
      this.#state = { kind: "closed", notBeforeMs: nowMs + DENIED_MS, isDenied: true };
      return;
    }
    if (this.hearsBytes) {
      subscriber.on("messageBuffer", (_channel: Buffer, bytes: Buffer) => this.#receive(bytes));
    } else {
      subscriber.on("message", (_channel: string, text: string) => this.#receive(Buffer.from(text)));
    }
    subscriber.on("end", () => this.#ended(subscriber, false));
    const opened = subscriber.subscribe(channelOf(this.id)).then(
      () => this.#opened(subscriber),
      (error: unknown) => {
        // A server that answers denies it. Anything else is the end of the connection.
        this.#ended(subscriber, error instanceof Error && error.message.startsWith("NOPERM"));
        subscriber.disconnect();
      },
    );
    // From the opening on: a client that moves before the first watch would else seem to have been there all along.
    this.#peer = peerOf(this.#client) ?? this.#peer;
    this.#state = { kind: "opening", subscriber, opened };
    this.#watch();
  }

  #opened(subscriber: Subscriber): void {
    if (this.#state.kind !== "opening" || this.#state.subscriber !== subscriber) return;
    this.#state = { kind: "live", subscriber, sinceMs: this.#runtime.monotonicMs() };
    this.#quietWatches = 0;
    // What was sent while it was not live is lost: whoever waits looks again.
    this.#tellAll();
  }

  #ended(subscriber: Subscriber, isDenied: boolean): void {
    if (this.#state.kind === "closed" || this.#state.subscriber !== subscriber) return;
    const nowMs = this.#runtime.monotonicMs();
    // Opened again at once; and ever later, if it does not last.
    if (this.#state.kind === "live" && nowMs - this.#state.sinceMs >= LONGEST_PAUSE_MS) this.#pauseMs = 0;
    const pauseMs = isDenied ? DENIED_MS : this.#pauseMs;
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, this.#pauseMs * 2));
    this.#state = { kind: "closed", notBeforeMs: nowMs + pauseMs, isDenied };
    this.#tellAll();
    this.#watch();
  }

  /** Once in a while: is the client still there, and the mailbox open? */
  #watch(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (!this.#isWanted) return;
    if (this.#client.status === "end") {
      this.onClientEnd();
      return;
    }
    const state = this.#state;
    const delayMs = state.kind === "closed" ? state.notBeforeMs - this.#runtime.monotonicMs() : WATCH_MS;
    this.#cancelTimer = this.#runtime.startTimer(Math.max(0, Math.min(delayMs, WATCH_MS)), false, () => {
      this.#leaveOldPrimary();
      this.#open();
      this.#probe();
      this.#watch();
    });
  }

  /** A network may lose a connection without a word to either end: then nothing is ever heard in it again. */
  #probe(): void {
    if (this.#state.kind !== "live" || !this.hearsBytes) return;
    const { subscriber } = this.#state;
    // To be denied is to be answered too.
    const heard = (): void => void (this.#quietWatches = 0);
    this.#quietWatches++;
    if (this.#quietWatches === QUIET_WATCHES) subscriber.ping().then(heard, heard);
    if (this.#quietWatches < SILENT_WATCHES) return;
    this.#ended(subscriber, false);
    subscriber.disconnect();
  }

  /** Where the client is connected to another server by now, so must this be: at the old one it hears nothing. */
  #leaveOldPrimary(): void {
    const peer = peerOf(this.#client);
    if (peer === undefined || peer === this.#peer) return;
    const hasMoved = this.#peer !== undefined;
    this.#peer = peer;
    if (hasMoved && this.#state.kind !== "closed") this.#state.subscriber.disconnect();
  }

  #tellAll(): void {
    for (const ears of this.#ears.values()) for (const hear of ears) hear(undefined);
  }

  #receive(bytes: Buffer): void {
    this.#quietWatches = 0;
    const message = parseMessage(bytes);
    if (message === undefined) return;
    if (message.kind === "confirmed") this.onConfirmed(message.fence, message.member);
    else if (message.kind === "fenced") this.onFenced(message);
    else for (const hear of this.#ears.get(message.key) ?? []) hear(message);
  }
}

// A connection that takes longer is as good as none: its waiters look meanwhile.
const OPENING_TIMEOUT_MS = 2000;
