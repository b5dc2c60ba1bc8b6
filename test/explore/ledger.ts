import type { Command, ModelServer } from "./model.js";
import type { ScriptRun } from "./model-scripts.js";
import { parseRun, textOf } from "./model-scripts.js";

/** What the explorer found to be broken. */
export class Violation extends Error {}

/** A call of `invalidate`, `set` or `invalidateTags`. */
export interface Fence {
  /** Of a tag: it concerns those that name the tag, and refuses no store. */
  readonly isTag: boolean;
  /** Moments, on the one line of everything that happens in a schedule. Each execution at the server moves it on. */
  executedAt: number;
  resolvedAt: number;
}

/** Where a value came from. */
export interface Version {
  readonly name: string;
  /** A value of `set` is as new as its execution, one of a recompute as new as its start. */
  readonly fence: Fence | undefined;
  readonly startedAt: number;
}

/** The lock, got by one process: claimed, or taken over. */
interface Tenure {
  readonly host: number;
  /** It may grow: its process' mailbox goes live, and the lock says so. */
  token: string;
  readonly isTaken: boolean;
  /** A value that will be good for long, found beside the lock when it was got. */
  readonly lastingVersion: string | undefined;
  isUsed: boolean;
  isLost: boolean;
}

/** A recompute under way. */
export interface Run {
  readonly host: number;
  readonly version: Version;
  readonly beganMs: number;
  readonly tenure: Tenure | undefined;
  readonly isRefresh: boolean;
  hasFailed: boolean;
  /** A call that had waited its time for it has rebuilt for itself: who comes later does not wait for it. */
  isGivenUp: boolean;
  isOver: boolean;
}

/** What a process has noted with a command when it sent it. */
export interface Note {
  readonly fence: Fence | undefined;
  /** When its sender began to wait: a script that is sent again is still the same wait. */
  readonly sinceMs: number;
}

/** A call of a process, under way or over. */
export interface LedgerCall {
  readonly beganMs: number;
  /** A `getOrSet`; not a fence or a `peek`. */
  readonly mayRebuild: boolean;
  isOver: boolean;
}

const LASTING_SECONDS = 30;
const GOOD_FOR_A_WHILE_MS = 2000;
/** A mailbox that only reconnects is back by then. */
const SILENCE_MS = 60;

/**
 * Watches one key at the server, every recompute and every answer, and throws a {@link Violation} at the first that
 * breaks a promise.
 *
 * "Rebuilds at once <= 1 while leases hold", exactly: a *tenure* begins when the server gives the lock to a process (the
 * script of a claim), and ends with the lock's value: when its lease runs out, or by a fence, a release or renewal by its own
 * process, a store by that or by whom the lock was taken from, or a takeover: by somebody who has waited for `waitForLock` and
 * replaces the value that it saw, or because the mailbox of its process was gone, twice. It lasts on where its own process
 * renews it under a token that has grown. If anything else ends or prolongs it, that is a violation. A locked recompute needs a tenure of its own process that no other recompute has used. So while a
 * tenure lasts and its process lives, its recompute is the only one that has the right to run. Without a lock, a process
 * recomputes only after a fault of Redis that it could see, and never two at once but where the first has lost its lock, or
 * where one of its calls has waited for `2 * waitForLock` and given the first up.
 */
export class Ledger {
  readonly #server: ModelServer;
  readonly #entryKey: string;
  readonly #lockKey: string;
  readonly #waitForLockMs: number;

  /** The last moment of the line. */
  now = 0;
  readonly versions = new Map<string, Version>();
  readonly fences: Fence[] = [];
  readonly runs: Run[] = [];
  readonly #tenures = new Map<string, Tenure>();
  #heldBefore: string | undefined;
  /** Host -> when its calls under way began, in milliseconds. */
  readonly callsOf: Set<LedgerCall>[];
  /** Takeovers by silence. */
  silences = 0;
  /** Locks that were got without a live mailbox, and said so once there was one. */
  growths = 0;
  /** Answers that were older than a fence, because the audience had been evicted less than a lease before. */
  afterEviction = 0;
  #copiesMayBeUnknownUntilMs = -Infinity;
  // Moment -> the server's time at it.
  readonly #momentsMs: number[] = [];
  // The tokens of locks in whose place no pause could be put.
  readonly #hadNoRoomForPause = new Set<string>();
  // Host -> the lock that was silent at its last look, and since when it has found it so.
  readonly #foundSilent = new Map<number, { readonly lock: string; readonly atMs: number }>();

  constructor(server: ModelServer, key: string, waitForLockMs: number, hostCount: number) {
    this.#server = server;
    this.#entryKey = key;
    this.#lockKey = `${key}:lock`;
    this.#waitForLockMs = waitForLockMs;
    this.callsOf = Array.from({ length: hostCount }, () => new Set());
  }

  moment(): number {
    this.#momentsMs[++this.now] = this.#server.nowMs;
    return this.now;
  }

  newVersion(prefix: "r" | "s", fence?: Fence): Version {
    const startedAt = this.moment();
    const version = { name: `${prefix}${String(startedAt)}`, fence, startedAt };
    this.versions.set(version.name, version);
    return version;
  }

  newFence(isTag = false): Fence {
    const fence = { isTag, executedAt: -Infinity, resolvedAt: Infinity };
    this.fences.push(fence);
    return fence;
  }

  /** Time has passed: a lease may have run out. */
  timePassed(): void {
    if (this.#server.peekString(this.#lockKey) === undefined) this.#lockChangedTo(undefined);
  }

  /** Fences do not know of the copies that were in it, until their leases are over. */
  audienceEvicted(leaseMs: number): void {
    this.#copiesMayBeUnknownUntilMs = this.#server.nowMs + leaseMs;
  }

  /** The server has executed a command of this host. */
  executed(host: number, { name, args, note }: Command, reply: unknown, losesCommands: boolean): void {
    const held = this.#server.peekString(this.#lockKey);
    const before = this.#heldBefore;
    if (name === "eval" || name === "evalsha") {
      const run = parseRun(args);
      if (reply === undefined) this.#scriptFailed(run);
      else if (run.keys.includes(this.#lockKey)) this.#ran(host, run, reply, note as Note, before, held, losesCommands);
      // A tag's state, or the entry's audience: nothing of the lock.
      else if (run.name === "fence") this.#fenced((note as Note).fence, reply);
    }
    if (held !== before) this.#lockChangedTo(held);
  }

  /** A server that is full takes no pause, so its lock is freed without one: it may have memory again by then. */
  #scriptFailed({ name, args }: ScriptRun): void {
    if (name === "free" && this.#server.isOutOfMemory) this.#hadNoRoomForPause.add(textOf(args[0]!));
  }

  #fenced(fence: Fence | undefined, reply: unknown): void {
    if (fence !== undefined && (reply as string[])[0] === "done") fence.executedAt = this.moment();
  }

  #ran(
    host: number,
    run: ScriptRun,
    reply: unknown,
    { fence }: Note,
    before: string | undefined,
    held: string | undefined,
    losesCommands: boolean,
  ): void {
    const isOwn = before !== undefined && this.#tenures.get(before)?.host === host;
    const [kind, lock, how] = Array.isArray(reply) ? (reply as string[]) : [String(reply)];
    if (kind === "done") this.#checkAudience(run.name);
    if (run.name === "renew" && kind === "done" && isOwn && held !== before) this.#grown(before, held!);
    if (run.name === "fence") this.#fenced(fence, reply);
    else if (run.name === "claim" && kind === "mine" && !this.#tenures.has(lock!)) {
      if (how === "patience") this.#checkPatience(host, before, textOf(run.args[7]!), isOwn, losesCommands);
      if (how === "silence") this.#checkSilence(host, before!, textOf(run.args[8]!));
      this.#begin(host, held!, how !== "free");
    } else if (run.name === "claim" && kind === "held") {
      this.#foundHeld(host, lock!, (reply as string[])[3] === "silent");
    } else if (run.name === "store" && kind !== "refused" && kind !== "foreign") {
      this.#stored(host, before, versionIn(textOf(run.args[1]!)));
    } else if (run.name === "store" && kind === "refused") {
      if (before?.startsWith(textOf(run.args[0]!)) === true) throw new Violation("refused the first to finish");
    } else if ((run.name === "renew" || run.name === "free") && kind === "done" && !isOwn) {
      throw new Violation(`${run.name} of a lock of another holder`);
    } else if (run.name === "free" && kind === "done") this.#checkPause(before!, textOf(run.args[1]!));
  }

  /** Whoever was told is out of it; and, after a fence, whoever's copy has had its time. */
  #checkAudience(by: ScriptRun["name"]): void {
    if (by !== "store" && by !== "free" && by !== "fence") return;
    for (const [member, endsMs] of this.#server.peekScores(`${this.#entryKey}:audience`)) {
      if (member.startsWith("w")) throw new Violation(`${by} left a waiter in the audience`);
      if (by === "fence" && endsMs <= Math.floor(this.#server.nowMs)) {
        throw new Violation("a fence left a copy in the audience whose time was over");
      }
    }
  }

  #foundHeld(host: number, lock: string, isSilent: boolean): void {
    if (!isSilent) this.#foundSilent.delete(host);
    else if (this.#foundSilent.get(host)?.lock !== lock)
      this.#foundSilent.set(host, { lock, atMs: this.#server.nowMs });
  }

  #checkPatience(host: number, before: string | undefined, outwaited: string, isOwn: boolean, loses: boolean): void {
    if (before === undefined || before !== outwaited)
      throw new Violation("took over a lock that it had not waited for");
    // Not so one that was claimed too late: it is being released.
    const tenure = this.#tenures.get(before)!;
    if (isOwn && tenure.isTaken && !tenure.isUsed && !loses) {
      throw new Violation("waited for a lock that it had taken over itself");
    }
    const longestMs = Math.max(...[...this.callsOf[host]!].map(({ beganMs }) => this.#server.nowMs - beganMs));
    if (longestMs < this.#waitForLockMs) throw new Violation("took over before waitForLock had passed");
  }

  #checkSilence(host: number, before: string, silent: string): void {
    this.silences++;
    const [, member] = /:L([0-9a-f]+)-[0-9a-f]+$/.exec(before) ?? [];
    if (before !== silent) throw new Violation("took over a lock that it had not found silent before");
    if (member === undefined || this.#server.subscribersOf(`cachefence:${member}`) > 0) {
      throw new Violation("took over from a holder whose mailbox is there");
    }
    if (!this.#server.hasEverHadSubscribers(`cachefence:${member}`)) {
      throw new Violation("took over from a holder that has never had a mailbox, and claimed with a live one");
    }
    const first = this.#foundSilent.get(host);
    if (first?.lock !== before || this.#server.nowMs - first.atMs < SILENCE_MS) {
      throw new Violation("took over a silent lock without time for its mailbox to come back");
    }
  }

  /** After a failed refresh the fleet rests, where the value will be good for a while. */
  #checkPause(freed: string, pauseMs: string): void {
    if (this.#hadNoRoomForPause.has(freed)) return;
    const run = this.runs.find(({ tenure }) => tenure?.token === freed);
    const leftMs = Number(this.#server.peekField(this.#entryKey, "expiry") ?? 0) * 1000 - this.#server.nowMs;
    if (run?.isRefresh === true && run.hasFailed && leftMs > GOOD_FOR_A_WHILE_MS && pauseMs === "0") {
      throw new Violation("left no pause after a failed refresh");
    }
  }

  #stored(host: number, before: string | undefined, version: string | undefined): void {
    const isMine = [...this.#tenures.values()].some((one) => one.host === host && before?.startsWith(one.token));
    if (!isMine) throw new Violation("stored under a lock that neither it nor a taker of its own held");
    const { startedAt } = this.versions.get(version!)!;
    if (this.fences.some(({ executedAt, isTag }) => !isTag && executedAt > startedAt)) {
      throw new Violation("stored a value whose recompute began before a fence");
    }
  }

  #begin(host: number, token: string, isTaken: boolean): void {
    const expiry = Number(this.#server.peekField(this.#entryKey, "expiry") ?? 0);
    const isLasting = expiry - this.#server.nowMs / 1000 > LASTING_SECONDS;
    const lastingVersion = isLasting ? this.storedVersion() : undefined;
    this.#tenures.set(token, { host, token, isTaken, lastingVersion, isUsed: false, isLost: false });
  }

  #grown(before: string, held: string): void {
    const [, own, member] = /^(.*):L([0-9a-f]+)-[0-9a-f]+$/.exec(held) ?? [];
    if (own !== before) throw new Violation("a renewal put another's token into the lock");
    if (!this.#server.hasEverHadSubscribers(`cachefence:${member!}`)) {
      throw new Violation("a lock says that a mailbox is live that has never been there");
    }
    const tenure = this.#tenures.get(before)!;
    this.#tenures.set(held, tenure);
    tenure.token = held;
    this.growths++;
  }

  #lockChangedTo(held: string | undefined): void {
    const tenure = this.#heldBefore === undefined ? undefined : this.#tenures.get(this.#heldBefore);
    const isAnother = held === undefined || this.#tenures.get(held) !== tenure;
    if (tenure !== undefined && isAnother) tenure.isLost = true;
    this.#heldBefore = held;
  }

  /** The `set` whose value this is. */
  fenceIn(stored: string): Fence | undefined {
    return this.versions.get(versionIn(stored)!)?.fence;
  }

  storedVersion(): string | undefined {
    return versionIn(this.#server.peekField(this.#entryKey, "v"));
  }

  /** Whose lock is there; undefined if there is none. */
  lockHost(): number | undefined {
    const held = this.#server.peekString(this.#lockKey);
    return held === undefined ? undefined : this.#tenures.get(held)?.host;
  }

  #unusedTenureOf(host: number): Tenure | undefined {
    return [...this.#tenures.values()].reverse().find((one) => one.host === host && !one.isUsed);
  }

  /** True if it has got a lock for which no recompute has been called yet. */
  mayRebuildUnderLock(host: number): boolean {
    return this.#unusedTenureOf(host) !== undefined;
  }

  /** A recompute is called. */
  rebuildStarts(host: number, isLocked: boolean, isRefresh: boolean, hadFault: boolean): Run {
    const nowMs = this.#server.nowMs;
    const tenure = isLocked ? this.#unusedTenureOf(host) : undefined;
    if (isLocked && tenure === undefined) throw new Violation("rebuilt without a lock of its own");
    if (!isLocked && !hadFault) throw new Violation("rebuilt without a lock, though Redis had not failed");
    const isThere = tenure?.lastingVersion !== undefined && tenure.lastingVersion === this.storedVersion();
    // After a fault, the server's time may be unknown to it: a value that is good looks old by its own clock.
    // One with a tag that has been fenced since is no value, for who names the tag.
    const isTagFenced = this.fences.some(({ isTag, executedAt }) => isTag && executedAt > 0);
    if (isThere && !isRefresh && !hadFault && !isTagFenced) throw new Violation("rebuilt although the value was there");
    const underWay = [...this.callsOf[host]!].filter(({ isOver }) => !isOver);
    const hasWaited = underWay.some(({ beganMs }) => nowMs - beganMs >= 2 * this.#waitForLockMs);
    for (const other of this.runs) {
      if (other.host !== host || other.isOver) continue;
      if (hasWaited) other.isGivenUp = true;
      const isLeft = other.isGivenUp || other.tenure?.isLost === true;
      if (!isLeft) throw new Violation("two rebuilds at once in one process");
    }
    if (!isRefresh && !underWay.some(({ mayRebuild }) => mayRebuild)) throw new Violation("rebuilt for nobody");
    const run = {
      host,
      version: this.newVersion("r"),
      beganMs: nowMs,
      tenure,
      isRefresh,
      hasFailed: false,
      isGivenUp: false,
      isOver: false,
    };
    this.runs.push(run);
    if (tenure !== undefined) tenure.isUsed = true;
    const rightful = this.runs.filter((one) => !one.isOver && one.tenure?.isLost === false);
    if (rightful.length > 1) throw new Violation("two rebuilds at once, and both hold the lock");
    return run;
  }

  /** A `getOrSet` that began at this moment, with the tag or without, has got its value. */
  answered(beganAt: number, value: unknown, isTagged: boolean): void {
    const version = this.versions.get((value as { version: string }).version);
    if (version === undefined) throw new Violation(`answered with ${JSON.stringify(value)}, which nobody made`);
    const asOf = version.fence === undefined ? version.startedAt : version.fence.executedAt;
    this.#refuseOlder(beganAt, asOf, isTagged, `answered with ${version.name}`);
  }

  /** A `getOrSet` that began at this moment has been rejected with the failure of the recompute of this version. */
  failed(beganAt: number, { name, startedAt }: Version, isTagged: boolean): void {
    this.#refuseOlder(beganAt, startedAt, isTagged, `rejected with the failure of ${name}`);
  }

  #refuseOlder(beganAt: number, asOf: number, isTagged: boolean, what: string): void {
    const concerning = this.fences.filter(({ isTag }) => isTagged || !isTag);
    if (concerning.some(({ resolvedAt, executedAt }) => resolvedAt < beganAt && asOf < executedAt)) {
      // What it took from memory when it began, the state of a tag say, stood then; its own read may be answered much later.
      if (this.#momentsMs[beganAt]! <= this.#copiesMayBeUnknownUntilMs) {
        this.afterEviction++;
        return;
      }
      throw new Violation(`${what}, older than a fence that had resolved before the call`);
    }
  }
}

function versionIn(stored: string | undefined): string | undefined {
  return stored === undefined ? undefined : (JSON.parse(stored) as { version: string }).version;
}
