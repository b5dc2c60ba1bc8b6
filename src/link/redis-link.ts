import { asError } from "../errors.js";
import type { Runtime } from "../runtime.js";
import { detached } from "../runtime.js";
import { Deliveries } from "./deliveries.js";
import { HeldBackWrites } from "./held-back-writes.js";
import type { LinkState } from "./outage.js";
import { Outage } from "./outage.js";
import { OwnConnectionError } from "./own-connection.js";
import type { RedisClient } from "./redis-client.js";
import { RedisFault, transactionFault } from "./redis-fault.js";
import { inRedisWords, isQueued, kindOf } from "./replies.js";
import type { OpenTick, Tick } from "./ticks.js";
import { Ticks } from "./ticks.js";

export { RedisFault } from "./redis-fault.js";

type Command<T> = (client: RedisClient) => Promise<T>;

/** A read of something, and what its reply means. One serves for all: a hit makes no functions. */
export interface Read<A, T, R> {
  readonly fetch: (client: RedisClient, about: A) => Promise<T>;
  readonly decode: (reply: T, about: A) => R;
}

/**
 * The way to Redis, with a deadline on each reply and an end to waiting during an outage: the client's own patience may be
 * minutes or endless.
 *
 * It rejects with a {@link RedisFault} where the failure says nothing about the key. An error about the key, its
 * permissions or a script is the one that Redis replied. Whatever a client does when it is called is a rejection too.
 */
export class RedisLink {
  readonly client: RedisClient;
  readonly #probe: Command<unknown>;
  readonly #outage: Outage;
  readonly #ticks: Ticks;
  readonly #writes: HeldBackWrites;
  readonly #deliveries: Deliveries;

  /** @param probe - asks whatever is answered by the server that this link leads to */
  constructor(
    client: RedisClient,
    timeoutMs: number,
    runtime: Runtime,
    probe: Command<unknown> = (client) => client.time(),
  ) {
    this.client = client;
    this.#probe = probe;
    this.#writes = new HeldBackWrites(client);
    this.#deliveries = new Deliveries(runtime);
    this.#outage = new Outage(client, timeoutMs, runtime);
    this.#ticks = new Ticks(runtime, timeoutMs, {
      outage: () => (this.#outage.isLost ? this.#outage.fault() : undefined),
      deadline: (isSilent) => {
        if (isSilent) this.#outage.beginSilence();
        return this.#outage.fault();
      },
    });
  }

  get state(): LinkState {
    return this.#outage.state;
  }

  get health(): LinkState {
    return this.#outage.health;
  }

  /** Called when an outage ends: Redis may be another host by now. */
  set onRecovery(hear: () => void) {
    this.#outage.onEnd = hear;
  }

  /** The tick of the commands being sent now. */
  tick(): Tick {
    return this.#ticks.current();
  }

  /** Sends one command and waits for its reply until the deadline. During an outage it sends nothing and rejects at once. */
  send<T>(command: Command<T>): Promise<T> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    const sent = this.#hand(command, undefined);
    this.#writes.otherSent();
    return this.#await(sent, same, undefined);
  }

  /** Likewise a read, which may share its write to the socket with others, and decodes its reply. */
  read<A, T, R>(read: Read<A, T, R>, about: A): Promise<R> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    this.#writes.beforeRead(this.#ticks.out);
    const sent = this.#hand(read.fetch, about);
    return this.#await(sent, read.decode, about);
  }

  /**
   * Reads the same of many. One promise for all: one for each is a good part of what a read costs. `land` is called once for
   * each, with what its reply means or what it failed of: a reply after the deadline is not heard. Never rejects.
   */
  readAll<A, T, R>(
    { fetch, decode }: Read<A, T, R>,
    all: readonly A[],
    land: (index: number, content: R | Error) => void,
  ): Promise<void> {
    const refusal = this.#refusal();
    if (refusal !== undefined) {
      all.forEach((_, index) => land(index, refusal));
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      let left = all.length;
      if (left === 0) resolve();
      const tick = this.#ticks.current();
      all.forEach((about, index) => {
        let hasLanded = false;
        const end = (content: R | Error): void => {
          if (hasLanded) return;
          hasLanded = true;
          land(index, content);
          if (--left === 0) resolve();
        };
        this.#writes.beforeRead(this.#ticks.out);
        const reply = this.#hand(fetch, about);
        const place = this.#ticks.wait(tick, end);
        reply.then(
          (value) => end(this.#meaning(tick, place, value, decode, about)),
          (error: unknown) => end(this.#failed(tick, place, asError(error))),
        );
      });
    });
  }

  /**
   * Hands a command to the client whatever its state, to be run once Redis is back; waits for the reply only where
   * {@link send} would. For what must not be left undone, and is safe to happen late, and twice.
   *
   * What Redis refuses now (too few replicas, read-only), or the client gives up, is tried again in the background, until
   * `untilMs` by the monotonic clock. Only a reply, or an error about the key, is final.
   */
  deliver<T>(command: Command<T>, untilMs: number): Promise<T> {
    const refusal = this.#refusal();
    const sent = this.#hand(command, undefined);
    this.#writes.otherSent();
    const reply = this.#await(sent, same, undefined);
    const again = (): Promise<unknown> => {
      const sentAgain = this.#hand(command, undefined);
      this.#writes.otherSent();
      // Nobody waits for it by now. But it is a reply like any other.
      this.#await(sentAgain, same, undefined).catch(() => undefined);
      return sentAgain;
    };
    this.#deliveries.follow(sent, again, untilMs);
    if (refusal === undefined) return reply;
    // The caller is told of the outage; the reply, or the client's own error, has nobody to go to.
    reply.catch(() => undefined);
    return Promise.reject(refusal);
  }

  /** From now until this turn of the event loop is over, everything that is sent leaves in one write. */
  holdBack(): void {
    this.#writes.holdAll();
  }

  /** Leaves nothing on the caller's client. */
  close(): void {
    this.#outage.close();
  }

  // A client may throw (ioredis does, on a Cluster with autopipelining), or be wrapped into something that returns no promise.
  #hand<A, T>(command: (client: RedisClient, about: A) => Promise<T>, about: A): Promise<T> {
    try {
      const sent: unknown = command(this.client, about);
      if (isThenable(sent)) return sent as Promise<T>;
      return Promise.reject(new TypeError(`the client returned no promise but ${String(sent)}`));
    } catch (error) {
      return Promise.reject(new NothingSent(error));
    }
  }

  #await<A, T, R>(reply: Promise<T>, decode: (reply: T, about: A) => R, about: A): Promise<R> {
    return new Promise<R>((resolve, reject) => {
      const tick = this.#ticks.current();
      const place = this.#ticks.wait(tick, reject);
      reply.then(
        (value) => {
          const content = this.#meaning(tick, place, value, decode, about);
          if (content instanceof RedisFault) reject(content);
          else resolve(content);
        },
        (error: unknown) => {
          reject(this.#failed(tick, place, asError(error)));
        },
      );
    });
  }

  /** What the reply to a command means; or the fault, where it is none to this one. */
  #meaning<A, T, R>(
    tick: OpenTick,
    place: number,
    value: T,
    decode: (reply: T, about: A) => R,
    about: A,
  ): R | RedisFault {
    this.#answered(tick, place);
    // It is in the application's transaction now, and happens, or does not, with that.
    if (isQueued(value)) return transactionFault();
    try {
      return decode(value, about);
    } catch (thrown) {
      return strangeReply(thrown);
    }
  }

  // Runs before anything that waits for the reply.
  #answered(tick: OpenTick, place: number): void {
    this.#ticks.answered(tick, place);
    this.#writes.replied();
    this.#outage.replied();
  }

  #failed(tick: OpenTick, place: number, error: Error): Error {
    if (error instanceof RedisFault) {
      // Of a step that was answered, but not by itself.
      this.#answered(tick, place);
      return error;
    }
    const kind = kindOf(error);
    if (kind === "no-reply") {
      const isLatest = this.#ticks.abandoned(tick, place);
      // An own connection that failed says nothing of the caller's.
      if (error instanceof OwnConnectionError) return new RedisFault(error.message, { cause: error.cause });
      // Nor does a client that stumbles. But one that gave up before this link did (`commandTimeout`) got no answer.
      if (isLatest && !(error instanceof NothingSent || error instanceof TypeError)) this.#outage.beginSilence();
      const cause = error instanceof NothingSent ? error.cause : error;
      return new RedisFault(`The client gave the command up: ${error.message}`, { cause });
    }
    this.#answered(tick, place);
    const reply = inRedisWords(error);
    return kind === "passing" ? new RedisFault(reply.message, { reply }) : reply;
  }

  /** Why nothing may be sent now, or undefined. */
  #refusal(): RedisFault | undefined {
    if (this.#outage.state === "ready") return undefined;
    // Its reply ends the silence; its failure only means that the silence goes on.
    if (this.#outage.isProbeDue())
      void detached(() => this.#await(this.#hand(this.#probe, undefined), same, undefined).catch(() => undefined));
    return this.#outage.fault();
  }
}

/** The client threw when it was called. */
class NothingSent extends Error {
  constructor(cause: unknown) {
    super(asError(cause).message, { cause });
  }
}

// A promise of the client's may be one of another library: `.then(onFulfilled, onRejected)` is all that is asked of it.
function isThenable(value: unknown): boolean {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

function strangeReply(thrown: unknown): RedisFault {
  const cause = asError(thrown);
  return new RedisFault(`The client's reply is not what Redis replies to this command: ${cause.message}`, { cause });
}

function same<T>(reply: T): T {
  return reply;
}
