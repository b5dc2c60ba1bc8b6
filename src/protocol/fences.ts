import type { Conversation, Way } from "./conversation.js";
import { foreignKeyError } from "./foreign-keys.js";
import type { KeyNames } from "./key-names.js";
import { channelOf, fenced } from "./messages.js";
import type { CopyHolder, EncodedEntry } from "./steps.js";

/** A fence that waits for the processes that may hold a copy. */
interface Waiting {
  readonly confirmed: Set<string>;
  heard: () => void;
}

/** Their mailbox may be reconnecting: they are told again, each time after the last telling. */
const TOLD_AGAIN_AFTER_MS = [50, 50, 100];

/**
 * Raises fences, and waits until no copy from before can be served any more: for each process in the key's audience, until it
 * has confirmed, or until its copy's lease has ended.
 *
 * Nothing else is waited for, and the audience is not asked again: a hot reader is back in it a millisecond after it has
 * confirmed, with a copy from after the fence.
 */
export class Fences {
  readonly #conversation: Conversation;
  // Fence -> who waits for it. There from before the fence is sent, for a confirmation may come before the reply does.
  readonly #waiting = new Map<string, Waiting>();

  constructor(conversation: Conversation) {
    this.#conversation = conversation;
    conversation.mailbox.onConfirmed = (fence, member) => {
      const waiting = this.#waiting.get(fence);
      waiting?.confirmed.add(member);
      waiting?.heard();
    };
  }

  /**
   * Removes the entry, or overwrites it. Resolves when no copy from before is served any more; with the time that it has
   * waited in vain for somebody to confirm, in milliseconds, or undefined where all have.
   */
  async raise(
    way: Way,
    names: KeyNames,
    entry: EncodedEntry | undefined,
    dropOwnCopy: () => void,
  ): Promise<number | undefined> {
    const { runtime } = this.#conversation;
    const link = way.links.of(names.entry);
    const fence = runtime.nonce();
    const waiting: Waiting = { confirmed: new Set(), heard: () => undefined };
    this.#waiting.set(fence, waiting);
    try {
      const answer = await link.send(() => way.steps.fence(names, fence, entry));
      if (answer.kind === "foreign") throw await foreignKeyError(link, names);
      dropOwnCopy();
      if (answer.copies.length === 0) return undefined;
      return await this.#untilConfirmed(way, names, fence, waiting, answer.copies);
    } finally {
      // Also where it failed: it may have happened.
      dropOwnCopy();
      this.#waiting.delete(fence);
    }
  }

  async #untilConfirmed(
    way: Way,
    names: KeyNames,
    fence: string,
    waiting: Waiting,
    copies: readonly CopyHolder[],
  ): Promise<number | undefined> {
    const { runtime, mailbox } = this.#conversation;
    const beganMs = runtime.monotonicMs();
    let toldTimes = 0;
    let nextTellingMs = beganMs + (TOLD_AGAIN_AFTER_MS[0] ?? Infinity);
    if (!mailbox.isLive) {
      // They were told with the name of a mailbox in which nobody reads.
      nextTellingMs = (await mailbox.ready()) ? runtime.monotonicMs() : Infinity;
    }
    for (;;) {
      const nowMs = runtime.monotonicMs();
      const missing = copies.filter(({ member }) => !waiting.confirmed.has(member));
      if (missing.length === 0) return undefined;
      const leaseEndsMs = Math.max(...missing.map(({ leaseLeftMs }) => beganMs + leaseLeftMs));
      if (nowMs >= leaseEndsMs) return nowMs - beganMs;
      if (nowMs >= nextTellingMs) {
        const alive = missing.filter(({ leaseLeftMs }) => nowMs < beganMs + leaseLeftMs);
        for (const { member } of alive) this.#tell(way, names, fence, member);
        nextTellingMs = nowMs + (TOLD_AGAIN_AFTER_MS[++toldTimes] ?? Infinity);
      }
      await new Promise<void>((resolve) => {
        const cancel = runtime.startTimer(Math.min(leaseEndsMs, nextTellingMs) - nowMs, true, resolve);
        waiting.heard = () => {
          cancel();
          resolve();
        };
      });
    }
  }

  #tell(way: Way, names: KeyNames, fence: string, member: string): void {
    const message = fenced(names.redisKey, fence, this.#conversation.mailbox.id);
    // A message that is lost costs the rest of a lease.
    way.links
      .of(names.entry)
      .send((client) => client.publish(channelOf(member), message))
      .catch(() => undefined);
  }
}
