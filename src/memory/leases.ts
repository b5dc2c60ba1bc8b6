import { kindOf } from "../link/replies.js";
import type { Conversation, Way } from "../protocol/conversation.js";
import type { KeyNames } from "../protocol/key-names.js";
import type { Message } from "../protocol/messages.js";
import { channelOf, confirmed } from "../protocol/messages.js";
import { RecentKeys } from "./hot-keys.js";

type Fenced = Extract<Message, { kind: "fenced" }>;

/**
 * What makes a copy good: this process is in the key's audience, so that every fence tells it and waits for it, until this
 * lease ends.
 *
 * It begins before the read is sent, and so before it is in the audience. It ends a little sooner than the audience says,
 * by the clocks of this process alone: the monotonic one, and the wall clock too, for the first stands still while a virtual
 * machine is suspended. Whichever ends first; and a wall clock that has been set back ends it as well.
 */
export class Lease {
  readonly names: KeyNames;
  readonly way: Way;
  readonly lengthMs: number;
  /** Who keeps the copy. */
  readonly owner: unknown;
  /** Told to drop its copy when this lease is recalled, by a fence or not. */
  onRecall: ((byFence: boolean) => void) | undefined;
  /** In the audience, as far as this process knows. */
  isEnlisted = true;
  #isRecalled = false;
  readonly #beganMs: number;
  readonly #beganWallMs: number;
  readonly #goodForMs: number;

  constructor(names: KeyNames, way: Way, lengthMs: number, owner: unknown, nowMs: number, wallMs: number) {
    this.names = names;
    this.way = way;
    this.lengthMs = lengthMs;
    this.owner = owner;
    this.#beganMs = nowMs;
    this.#beganWallMs = wallMs;
    this.#goodForMs = lengthMs * 0.99 - 1;
  }

  isGood(nowMs: number, wallMs: number): boolean {
    if (this.#isRecalled) return false;
    const wallPassedMs = wallMs - this.#beganWallMs;
    return nowMs - this.#beganMs < this.#goodForMs && wallPassedMs < this.#goodForMs && wallPassedMs >= 0;
  }

  /** True once no message about it is worth anything any more. */
  isOver(nowMs: number): boolean {
    return nowMs - this.#beganMs > this.lengthMs;
  }

  recall(byFence: boolean): void {
    if (this.#isRecalled) return;
    this.#isRecalled = true;
    this.onRecall?.(byFence);
  }
}

const leases = new WeakMap<Conversation, Leases>();

/**
 * The leases of all caches over one client: a fence of a key recalls them all, those whose reads are still out among them.
 */
export class Leases {
  readonly #conversation: Conversation;
  // Key as Redis knows it -> its leases that are not over, recalled ones too: they are in the audience until they leave it.
  // Oldest first, so that those that are over are found at the front.
  readonly #byKey = new Map<string, Lease[]>();
  readonly #read = new RecentKeys();
  readonly #fenced = new RecentKeys();
  // Keys that this process is leaving the audience of, and how many such commands are out. Nobody enlists meanwhile: a
  // command that is sent again, or redirected, must not remove a later lease.
  readonly #leaving = new Map<string, number>();
  #longestMs = 0;
  /** False once the server has denied a confirmation: copies would each cost their fences a lease, so there are to be none. */
  mayConfirm = true;

  static of(conversation: Conversation): Leases {
    let there = leases.get(conversation);
    if (there === undefined) leases.set(conversation, (there = new Leases(conversation)));
    return there;
  }

  private constructor(conversation: Conversation) {
    this.#conversation = conversation;
    conversation.mailbox.onFenced = (message) => {
      this.#recalled(message);
    };
  }

  /**
   * A lease for a read that is to be sent now, if this key is worth one: at its second read within a lease, and not for a
   * lease after a fence, for a key that is fenced all the time is served no copy, and its fences are to cost one command.
   */
  begin(names: KeyNames, way: Way, lengthMs: number, owner: unknown): Lease | undefined {
    const { runtime } = this.#conversation;
    const key = names.redisKey;
    const nowMs = runtime.monotonicMs();
    if (!this.#read.add(key, nowMs, lengthMs)) return undefined;
    if (this.#fenced.has(key, nowMs, lengthMs) || this.#leaving.has(key)) return undefined;
    this.#longestMs = Math.max(this.#longestMs, lengthMs);
    this.#forgetOver(nowMs);
    const lease = new Lease(names, way, lengthMs, owner, nowMs, runtime.wallClockMs());
    const there = this.#byKey.get(key) ?? [];
    // To the back: the youngest.
    this.#byKey.delete(key);
    this.#byKey.set(key, [...there.filter((one) => !one.isOver(nowMs)), lease]);
    return lease;
  }

  /** Recalls what this process has of the key: by its own fence, or because a newer entry is known. */
  drop(redisKey: string, isFence: boolean): void {
    // Before the first lease there is none to be spared.
    if (isFence && this.#longestMs > 0)
      this.#fenced.add(redisKey, this.#conversation.runtime.monotonicMs(), this.#longestMs);
    for (const lease of this.#byKey.get(redisKey) ?? []) lease.recall(isFence);
  }

  /**
   * Another process has fenced the key. First the copies go; then this member leaves the audience, on the connection by which
   * it would enter it again; then the fence is told, for whom no copy from before can be served from here any more.
   */
  #recalled({ key, fence, member }: Fenced): void {
    const { client, mailbox } = this.#conversation;
    const there = this.#byKey.get(key) ?? [];
    // Without a lease there is nothing to drop, and nothing is noted: anybody may name any key, ever so often.
    if (there.length > 0) this.drop(key, true);
    for (const sibling of this.#siblingsOf(key, there)) this.drop(sibling, true);
    void this.leave(there);
    // Lost, it costs the fence the rest of a lease.
    const confirm = (): Promise<unknown> => client.publish(channelOf(member), confirmed(fence, mailbox.id));
    const [lease] = there;
    const sent = lease === undefined ? confirm() : lease.way.links.of(lease.names.entry).send(confirm);
    sent.catch((error: unknown) => {
      if (kindOf(error) === "key" && lease !== undefined) this.mayConfirm = false;
    });
  }

  /** On a Cluster, the keys `a` and `{a}` have one audience: who leaves it for one has left it for the other. */
  #siblingsOf(key: string, [lease]: readonly Lease[]): string[] {
    if (lease === undefined || !this.#conversation.needsSlots) return [];
    const { audience } = lease.names;
    return [...this.#byKey].flatMap(([other, [first]]) => {
      return other !== key && first?.names.audience === audience ? [other] : [];
    });
  }

  /** Leaves the audiences in which these leases are. */
  async leave(there: readonly Lease[]): Promise<void> {
    const { mailbox } = this.#conversation;
    const leaving = there.map(async (lease) => {
      if (!lease.isEnlisted) return;
      lease.isEnlisted = false;
      const { names, way, lengthMs } = lease;
      const key = names.redisKey;
      this.#leaving.set(key, (this.#leaving.get(key) ?? 0) + 1);
      const left = (): void => {
        const count = this.#leaving.get(key) ?? 0;
        if (count > 1) this.#leaving.set(key, count - 1);
        else this.#leaving.delete(key);
      };
      let command: Promise<unknown> | undefined;
      const answered = way.links
        .of(names.entry)
        .send((client) => (command = client.zrem(names.audience, `c${mailbox.id}:${String(lengthMs)}`)))
        .catch(() => undefined);
      // Until the client itself is done with it, however late.
      if (command === undefined) left();
      else command.then(left, left);
      await answered;
    });
    await Promise.all(leaving);
  }

  /** Its cache is closed. The audiences are the others' too: they are left when the last is. */
  dropAllOf(owner: unknown): void {
    for (const there of this.#byKey.values()) {
      for (const lease of there) if (lease.owner === owner) lease.recall(false);
    }
  }

  /** Takes all copies, and leaves all audiences. Resolves when Redis has heard of it, or does not answer. */
  async close(): Promise<void> {
    const all = [...this.#byKey.values()].flat();
    this.#byKey.clear();
    for (const lease of all) lease.recall(false);
    await this.leave(all);
  }

  #forgetOver(nowMs: number): void {
    for (const [key, there] of this.#byKey) {
      const last = there[there.length - 1];
      if (last !== undefined && !last.isOver(nowMs)) return;
      this.#byKey.delete(key);
    }
  }
}
