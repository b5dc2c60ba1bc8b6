import type { RedisLink } from "../link/redis-link.js";
import { RedisFault } from "../link/redis-link.js";
import { kindOf } from "../link/replies.js";
import type { CancelTimer } from "../runtime.js";
import type { Conversation, Way } from "./conversation.js";
import { foreignKeyError } from "./foreign-keys.js";
import type { KeyNames } from "./key-names.js";
import type { ClaimAnswer, ClaimRequest, EncodedEntry, Steps, StoreAnswer } from "./steps.js";
import type { Token } from "./token.js";
import { firstToken, isOfLine, partOf, saysLive, takenToken } from "./token.js";

/** How long a waiter stays in the audience if it does not look again. */
const WAIT_MS = 2000;

/** The answer to a claim, with the lock itself where it was got. */
export type Claim =
  | Exclude<ClaimAnswer, { readonly kind: "mine" | "foreign" }>
  | { readonly kind: "mine"; readonly lock: HeldLock; readonly how: "free" | "patience" | "silence" };

/** The rebuild lock of every key: claimed, renewed, freed and taken over by token only. */
export class RebuildLock {
  readonly #conversation: Conversation;
  readonly #way: Way;
  readonly #leaseMs: number;

  constructor(conversation: Conversation, way: Way, leaseMs: number) {
    this.#conversation = conversation;
    this.#way = way;
    this.#leaseMs = leaseMs;
  }

  /** Looks, and takes what may be taken. */
  async claim(
    names: KeyNames,
    wish: Omit<ClaimRequest, "part" | "leaseMs" | "waitMs">,
    isListening: boolean,
  ): Promise<Claim> {
    const { mailbox, runtime } = this.#conversation;
    const { links, steps } = this.#way;
    const link = links.of(names.entry);
    const part = partOf(mailbox.id, mailbox.showsDeath && mailbox.isLive, runtime.nonce());
    const request = { ...wish, part, leaseMs: this.#leaseMs, waitMs: isListening ? WAIT_MS : 0 };
    let sent: Promise<ClaimAnswer> | undefined;
    let answer: ClaimAnswer;
    try {
      answer = await link.send(() => (sent = steps.claim(names, request)));
    } catch (error) {
      this.#undo(names, request, sent);
      throw error;
    }
    if (answer.kind === "foreign") throw await foreignKeyError(link, names);
    if (answer.kind !== "mine") return answer;
    return { kind: "mine", how: answer.how, lock: this.#held(names, answer.token) };
  }

  /** Waits no longer in the audience. Lost, it costs a message. */
  async leaveAudience(names: KeyNames): Promise<void> {
    const member = `w${this.#conversation.mailbox.id}`;
    const link = this.#way.links.of(names.entry);
    await link.send((client) => client.zrem(names.audience, member)).catch(() => undefined);
  }

  /** Frees what a failed claim may have taken, or may take later: once the client has done with its command. */
  #undo(names: KeyNames, { part, outwaited, silent }: ClaimRequest, sent: Promise<ClaimAnswer> | undefined): void {
    const free = (token: Token): void =>
      void this.#held(names, token)
        .free(0)
        .catch(() => undefined);
    sent?.then(
      (answer) => {
        if (answer.kind === "mine") free(answer.token);
      },
      (error: unknown) => {
        // Of a key that it may not touch nothing was taken. Any other error may answer a command that was sent again after
        // the first had taken the lock.
        if (error instanceof Error && kindOf(error) === "key") return;
        free(firstToken(part));
        for (const held of new Set([outwaited, silent])) if (held !== undefined) free(takenToken(held, part));
      },
    );
  }

  #held(names: KeyNames, token: Token): HeldLock {
    const { links, steps } = this.#way;
    return new HeldLock(links.of(names.entry), steps, this.#conversation, names, token, this.#leaseMs);
  }
}

/** A lock that this process has got. It may lose it: to a fence, to the end of its lease, or to somebody who takes it over. */
export class HeldLock {
  readonly names: KeyNames;
  readonly token: Token;
  readonly #link: RedisLink;
  readonly #steps: Steps;
  readonly #conversation: Conversation;
  readonly #leaseMs: number;
  // The same token, or what it has grown to: from the sending of that renewal on, the lock may hold either.
  #grown: Token;
  #renew: (() => Promise<void>) | undefined;
  #cancelRenewal: CancelTimer | undefined;
  #isOver = false;

  constructor(
    link: RedisLink,
    steps: Steps,
    conversation: Conversation,
    names: KeyNames,
    token: Token,
    leaseMs: number,
  ) {
    this.names = names;
    this.token = this.#grown = token;
    this.#link = link;
    this.#steps = steps;
    this.#conversation = conversation;
    this.#leaseMs = leaseMs;
  }

  /**
   * Renews the lease every third of its length until the lock is stored under, freed or lost. A renewal that Redis does not
   * answer, or refuses, is tried again in its turn.
   *
   * @param moment - the moment now: that of the sending is told with the loss
   * @param onLost - the lock is another's: that token, which has taken it over; or nobody's that concerns us, undefined
   */
  keep(moment: () => number, onLost: (takenBy: string | undefined, asOf: number) => void): void {
    const { runtime } = this.#conversation;
    const waitMs = Math.max(WAIT_MS, this.#leaseMs);
    const renew = async (): Promise<void> => {
      const asOf = moment();
      const { names, token } = this;
      const answer = await this.#link
        .send(() => this.#steps.renew(names, token, this.#grown, this.#leaseMs, waitMs))
        .catch(() => undefined);
      if (this.#isOver) return;
      // Its own lock is no loss: an older renewal was run behind the one that has grown it.
      const isLost = answer?.kind === "lost" || (answer?.kind === "taken" && answer.lock !== this.#grown);
      if (!isLost) {
        schedule();
        return;
      }
      this.#cancelRenewal?.();
      onLost(answer.kind === "taken" ? answer.lock : undefined, asOf);
    };
    const schedule = (): void => {
      // Two may be under way, where the mailbox went live during one of them; one goes on.
      this.#cancelRenewal?.();
      this.#cancelRenewal = runtime.startTimer(this.#leaseMs / 3, false, () => void renew());
    };
    this.#renew = renew;
    schedule();
    this.showLife();
  }

  /**
   * To be called when the mailbox may have gone live: a lock that was got before that is renewed at once, with a token that
   * says so. From then on others see this process die.
   */
  showLife(): void {
    const { mailbox, runtime } = this.#conversation;
    if (this.#isOver || !mailbox.isLive || !mailbox.showsDeath || saysLive(this.#grown)) return;
    const grown = takenToken(this.token, partOf(mailbox.id, true, runtime.nonce()));
    // One that is too long to grow stays: the lock must begin with the token that is stored under.
    if (!isOfLine(grown, this.token)) return;
    this.#grown = grown;
    // It never rejects: what it is not answered is asked again in its turn.
    void this.#renew?.();
  }

  /** Renews no longer. */
  stop(): void {
    this.#isOver = true;
    this.#cancelRenewal?.();
  }

  /**
   * Stores the entry and frees the lock, if that begins with this token. Handed over even during an outage,
   * and tried again until the lease would have ended anyway: the fence makes a late store safe.
   */
  async store(entry: EncodedEntry): Promise<Exclude<StoreAnswer, "foreign">> {
    this.stop();
    const outcome = await this.#deliver(() => this.#steps.store(this.names, this.token, entry));
    if (outcome === "foreign") throw await foreignKeyError(this.#link, this.names);
    return outcome;
  }

  /**
   * Frees the lock, or leaves a pause in its place, if it is still exactly this holder's; true if it was. Tried again like
   * a store. Rejects with what Redis said where it will not: then the lease ends the lock.
   */
  async free(pauseMs: number): Promise<boolean> {
    this.stop();
    const freeFor = async (ms: number): Promise<"done" | "refused"> => {
      const outcome = await this.#steps.free(this.names, this.token, ms);
      // Refused under the first, it never comes back to that: one more attempt is enough.
      return outcome === "done" || this.#grown === this.token ? outcome : this.#steps.free(this.names, this.#grown, ms);
    };
    const outcome = await this.#deliver(() =>
      freeFor(Math.ceil(pauseMs)).catch((error: unknown) => {
        // A server that is full takes no pause. It frees a lock all the same, but for who has no scripting: in MULTI it
        // takes nothing.
        if (pauseMs === 0 || kindOf(error) !== "passing") throw error;
        return freeFor(0);
      }),
    ).catch((error: unknown) => {
      // Redis does not answer. It is tried again.
      if (error instanceof RedisFault) return undefined;
      throw error;
    });
    return outcome === "done";
  }

  #deliver<A>(command: () => Promise<A>): Promise<A> {
    return this.#link.deliver(command, this.#conversation.runtime.monotonicMs() + this.#leaseMs);
  }
}
