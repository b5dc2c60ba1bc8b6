import type { Command, ModelServer, Word } from "./model.js";

/** What the explorer found to be broken. */
export class Violation extends Error {}

/** A call of `invalidate` or `set`. */
export interface Fence {
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
  readonly token: string;
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
  isOver: boolean;
}

/** What a process has noted with a command when it sent it. */
export interface Note {
  readonly fence: Fence | undefined;
  /** When its sender began to wait: a script that is sent again is still the same wait. */
  readonly sinceMs: number;
  /** The last value of the lock that the sender had been told. */
  readonly seenLock: string | undefined;
}

interface GuardedWrite {
  readonly writes: readonly string[];
  readonly version: string | undefined;
}

const LASTING_SECONDS = 30;

/**
 * Watches one key at the server, every recompute and every answer, and throws a {@link Violation} at the first that
 * breaks a promise.
 *
 * "Rebuilds at once <= 1 while leases hold", exactly: a *tenure* begins when the server gives the lock to a process (SET
 * NX, or the script of a takeover), and ends with the lock's value: when its lease runs out, or by an `invalidate`, a
 * `set`, a release or renewal by its own process, a store by that or by whom the lock was taken from, or a takeover by
 * somebody who has waited for `waitForLock` and replaces the value that it saw. If anything else ends or prolongs it, that is a violation. A
 * locked recompute needs a tenure of its own process that no other recompute has used. So while a tenure lasts and its
 * process lives, its recompute is the only one that has the right to run. Without a lock, a process recomputes only
 * after a fault of Redis that it could see, and never two at once but where the first has lost its lock or is older than
 * `2 * waitForLock`.
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
  readonly callsOf: Set<{ readonly beganMs: number }>[];

  constructor(server: ModelServer, key: string, waitForLockMs: number, hostCount: number) {
    this.#server = server;
    this.#entryKey = key;
    this.#lockKey = `${key}:lock`;
    this.#waitForLockMs = waitForLockMs;
    this.callsOf = Array.from({ length: hostCount }, () => new Set());
  }

  moment(): number {
    return ++this.now;
  }

  newVersion(prefix: "r" | "s", fence?: Fence): Version {
    const startedAt = this.moment();
    const version = { name: `${prefix}${String(startedAt)}`, fence, startedAt };
    this.versions.set(version.name, version);
    return version;
  }

  newFence(): Fence {
    const fence = { executedAt: -Infinity, resolvedAt: Infinity };
    this.fences.push(fence);
    return fence;
  }

  /** Time has passed: a lease may have run out. */
  timePassed(): void {
    if (this.#server.peekString(this.#lockKey) === undefined) this.#lockChangedTo(undefined);
  }

  /** The server has executed a command of this host. */
  executed(host: number, { name, args, note }: Command, reply: unknown, losesCommands: boolean): void {
    const held = this.#server.peekString(this.#lockKey);
    const before = this.#heldBefore;
    const { fence, seenLock } = note as Note;
    if (name === "set" && reply === "OK") this.#begin(host, String(args[1]), false);
    else if ((name === "eval" || name === "evalsha") && typeof reply === "string" && reply !== "refused") {
      const write = parseGuardedWrite(args);
      // A set may have to wait for the clock before it is sent: its value tells whose it is.
      const own = fence ?? (write.version === undefined ? undefined : this.versions.get(write.version)?.fence);
      if (own !== undefined) own.executedAt = this.moment();
      else if (reply === "done") this.#wrote(host, write, before, held, seenLock, losesCommands);
    }
    if (held !== before) this.#lockChangedTo(held);
  }

  #wrote(
    host: number,
    { writes, version }: GuardedWrite,
    before: string | undefined,
    held: string | undefined,
    seenLock: string | undefined,
    losesCommands: boolean,
  ): void {
    const isOwn = before !== undefined && this.#tenures.get(before)?.host === host;
    if (writes.includes("set lock")) {
      if (before === undefined || before !== seenLock)
        throw new Violation("took over a lock that it had not waited for");
      // Not so one that was claimed too late: it is being released.
      const tenure = this.#tenures.get(before)!;
      if (isOwn && tenure.isTaken && !tenure.isUsed && !losesCommands) {
        throw new Violation("waited for a lock that it had taken over itself");
      }
      const longestMs = Math.max(...[...this.callsOf[host]!].map(({ beganMs }) => this.#server.nowMs - beganMs));
      // An aborted call leaves its flight behind, which waits on for nobody.
      if (longestMs < this.#waitForLockMs) throw new Violation("took over before waitForLock had passed");
      this.#begin(host, held!, true);
    } else if (version !== undefined) {
      const isMine = [...this.#tenures.values()].some((one) => one.host === host && before?.startsWith(one.token));
      if (!isMine) throw new Violation("stored under a lock that neither it nor a taker of its own held");
      const { startedAt } = this.versions.get(version)!;
      if (this.fences.some(({ executedAt }) => executedAt > startedAt)) {
        throw new Violation("stored a value whose recompute began before a fence");
      }
    } else if (before !== undefined && !isOwn) {
      throw new Violation(`${writes.includes("pexpire lock") ? "renewed" : "released"} a lock of another holder`);
    }
  }

  #begin(host: number, token: string, isTaken: boolean): void {
    const expiry = Number(this.#server.peekField(this.#entryKey, "expiry") ?? 0);
    const isLasting = expiry - this.#server.nowMs / 1000 > LASTING_SECONDS;
    const lastingVersion = isLasting ? this.storedVersion() : undefined;
    this.#tenures.set(token, { host, token, isTaken, lastingVersion, isUsed: false, isLost: false });
  }

  #lockChangedTo(held: string | undefined): void {
    const tenure = this.#heldBefore === undefined ? undefined : this.#tenures.get(this.#heldBefore);
    if (tenure !== undefined && this.#heldBefore !== held) tenure.isLost = true;
    this.#heldBefore = held;
  }

  storedVersion(): string | undefined {
    return versionIn(this.#server.peekField(this.#entryKey, "v"));
  }

  /** Whose lock is there; undefined if there is none. */
  lockHost(): number | undefined {
    const held = this.#server.peekString(this.#lockKey);
    return held === undefined ? undefined : this.#tenures.get(held)?.host;
  }

  /** A recompute is called. */
  rebuildStarts(host: number, isLocked: boolean, isRefresh: boolean, hadFault: boolean): Run {
    const nowMs = this.#server.nowMs;
    const tenure = isLocked
      ? [...this.#tenures.values()].reverse().find((one) => one.host === host && !one.isUsed)
      : undefined;
    if (isLocked && tenure === undefined) throw new Violation("rebuilt without a lock of its own");
    if (!isLocked && !hadFault) throw new Violation("rebuilt without a lock, though Redis had not failed");
    const isThere = tenure?.lastingVersion !== undefined && tenure.lastingVersion === this.storedVersion();
    // After a fault, the server's time may be unknown to it: a value that is good looks old by its own clock.
    if (isThere && !isRefresh && !hadFault) throw new Violation("rebuilt although the value was there");
    for (const other of this.runs) {
      const isLeft = other.isOver || other.tenure?.isLost === true || nowMs - other.beganMs >= 2 * this.#waitForLockMs;
      if (other.host === host && !isLeft) throw new Violation("two rebuilds at once in one process");
    }
    const run = { host, version: this.newVersion("r"), beganMs: nowMs, tenure, isOver: false };
    this.runs.push(run);
    if (tenure !== undefined) tenure.isUsed = true;
    const rightful = this.runs.filter((one) => !one.isOver && one.tenure?.isLost === false);
    if (rightful.length > 1) throw new Violation("two rebuilds at once, and both hold the lock");
    return run;
  }

  /** A `getOrSet` that began at this moment has got its value. */
  answered(beganAt: number, value: unknown): void {
    const version = this.versions.get((value as { version: string }).version);
    if (version === undefined) throw new Violation(`answered with ${JSON.stringify(value)}, which nobody made`);
    const asOf = version.fence === undefined ? version.startedAt : version.fence.executedAt;
    this.#refuseOlder(beganAt, asOf, `answered with ${version.name}`);
  }

  /** A `getOrSet` that began at this moment has been rejected with the failure of the recompute of this version. */
  failed(beganAt: number, { name, startedAt }: Version): void {
    this.#refuseOlder(beganAt, startedAt, `rejected with the failure of ${name}`);
  }

  #refuseOlder(beganAt: number, asOf: number, what: string): void {
    if (this.fences.some(({ resolvedAt, executedAt }) => resolvedAt < beganAt && asOf < executedAt)) {
      throw new Violation(`${what}, older than a fence that had resolved before the call`);
    }
  }
}

/** The writes among the words of the script, as "verb key"; and the version that a rebuild stores. */
function parseGuardedWrite(args: readonly Word[]): GuardedWrite {
  const keyCount = Number(args[1]);
  const words = args.slice(2 + keyCount + 4);
  const writes: string[] = [];
  let version: string | undefined;
  for (let at = 0; at < words.length; at += Number(words[at]) + 1) {
    const verb = String(words[at + 1]);
    writes.push(`${verb} ${words[at + 2] === "1" ? "lock" : "entry"}`);
    if (verb === "hset") version = versionIn(String(words[at + 4]));
  }
  return { writes, version };
}

function versionIn(stored: string | undefined): string | undefined {
  return stored === undefined ? undefined : (JSON.parse(stored) as { version: string }).version;
}
