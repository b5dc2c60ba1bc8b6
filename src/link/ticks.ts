import { setImmediate } from "node:timers";
import type { Runtime } from "../runtime.js";
import { detached } from "../runtime.js";
import type { RedisFault } from "./redis-fault.js";

/** The commands sent in one turn of the event loop: they share one deadline, and callers of one key share one read. */
export interface Tick {
  readonly number: number;
  readonly sentMs: number;
  /** Key -> its last read of this tick. */
  readonly reads: Map<string, SharedRead>;
}

/** A read, and who would read the same in the same way. */
export interface SharedRead<T = unknown> {
  readonly reader: unknown;
  readonly mark: string;
  readonly reading: Promise<T>;
  /** The first of those who would not only read the same, but do the same with it: the reader keeps it for its cache. */
  first: unknown;
}

/** A tick as its commands hold it; all but its name is for this file alone. */
export interface OpenTick extends Tick {
  /**
   * From when its deadline counts: its sending, or the turn of a later reply to one of its commands; or to one of an older
   * tick, which hands its moment on when it closes. No younger tick is looked at before an older one. A turn that goes on for
   * long is forgiven like any other time in which no reply could be read.
   */
  sinceMs: number;
  /** Ends a command's wait, in the order of sending. Those that are answered stay, and calling theirs does nothing. */
  readonly giveUp: ((reason: RedisFault) => void)[];
  unanswered: number;
  /** False again when all is answered or given up. */
  isOpen: boolean;
  /** The highest place in `giveUp` that was answered. */
  latest: number;
  older: OpenTick | undefined;
  newer: OpenTick | undefined;
}

/** What the deadlines are kept for. */
export interface TicksOwner {
  /** Why nothing may be waited for any more, or undefined. */
  outage(): RedisFault | undefined;
  /** A deadline has passed. Silent: neither that command nor any sent after it was answered. */
  deadline(isSilent: boolean): RedisFault;
}

const LONGEST_SWEEP_MS = 100;

/**
 * Deadlines of replies.
 *
 * Neither a timer nor an object per read is affordable: one sweep looks at all ticks with unanswered commands, and runs
 * only while there are any.
 *
 * Redis answers a connection's commands in their order. So as long as replies to older commands come, it has not been
 * silent to the younger ones, which wait behind the backlog of this process: their time counts from the latest of those
 * replies. A command that was overtaken, by the reply to a younger one, waits behind no backlog, and gains nothing.
 */
export class Ticks {
  readonly #runtime: Runtime;
  readonly #timeoutMs: number;
  readonly #sweepMs: number;
  readonly #owner: TicksOwner;

  // The tick in which commands are being sent now. Ended by nextTick, that is before any other callback runs, and by the
  // first of its replies, which a client in memory (ioredis-mock) gives within it.
  #current: OpenTick | undefined;
  #count = 0;
  // The ticks with commands neither answered nor given up are a chain, from the oldest to the newest.
  #oldest: OpenTick | undefined;
  #newest: OpenTick | undefined;
  #isSweeping = false;
  #latestAnswered = 0;
  #out = 0;

  constructor(runtime: Runtime, timeoutMs: number, owner: TicksOwner) {
    this.#runtime = runtime;
    this.#timeoutMs = timeoutMs;
    this.#sweepMs = Math.min(LONGEST_SWEEP_MS, timeoutMs / 4);
    this.#owner = owner;
  }

  /** How many commands are waited for. */
  get out(): number {
    return this.#out;
  }

  /** The tick of the commands being sent now. */
  current(): OpenTick {
    if (this.#current === undefined) {
      const nowMs = this.#runtime.monotonicMs();
      this.#current = {
        number: ++this.#count,
        sentMs: nowMs,
        sinceMs: nowMs,
        reads: new Map(),
        giveUp: [],
        unanswered: 0,
        isOpen: false,
        latest: -1,
        older: undefined,
        newer: undefined,
      };
      process.nextTick(this.#endCurrent);
    }
    return this.#current;
  }

  /** A command was sent in the current tick: until it is answered or abandoned, `giveUp` is called at its deadline. Its place. */
  wait(tick: OpenTick, giveUp: (reason: RedisFault) => void): number {
    this.#out++;
    tick.unanswered++;
    if (!tick.isOpen) this.#open(tick);
    return tick.giveUp.push(giveUp) - 1;
  }

  /** A reply, in time or not. */
  answered(tick: OpenTick, place: number): void {
    if (tick.number > this.#latestAnswered) this.#latestAnswered = tick.number;
    if (place > tick.latest) tick.latest = place;
    if (tick === this.#current) this.#current = undefined;
    if (tick.isOpen) this.#out--;
    tick.unanswered--;
    // One that was given up was the oldest of all: what is open was sent after it.
    const moved = tick.isOpen ? tick : this.#oldest;
    // Alone and done, as nearly always: there is nobody whose deadline this reply could move.
    if (moved !== undefined && (moved.unanswered > 0 || moved.newer !== undefined)) {
      moved.sinceMs = this.current().sentMs;
    }
    if (tick.unanswered === 0) this.#close(tick);
  }

  /** No reply will come, by the client's own word. True if nothing sent later was answered. */
  abandoned(tick: OpenTick, place: number): boolean {
    if (tick.isOpen) this.#out--;
    if (--tick.unanswered === 0) this.#close(tick);
    return this.#latestAnswered < tick.number || (this.#latestAnswered === tick.number && tick.latest < place);
  }

  readonly #endCurrent = (): void => {
    this.#current?.reads.clear();
    this.#current = undefined;
  };

  #open(tick: OpenTick): void {
    // A tick whose commands were all answered and that sends another is the newest still.
    tick.isOpen = true;
    tick.older = this.#newest;
    if (this.#newest === undefined) this.#oldest = tick;
    else this.#newest.newer = tick;
    this.#newest = tick;
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    this.#startSweep();
  }

  // Emptied, as its reads are at its end: a tick that was old when it was answered is collected late, values and all.
  #close(tick: OpenTick): void {
    if (!tick.isOpen) return;
    tick.isOpen = false;
    // Those that are given up: some clients never answer what was out when a connection was lost.
    this.#out -= tick.unanswered;
    const { older, newer } = tick;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest = older;
    else {
      newer.older = older;
      newer.sinceMs = Math.max(newer.sinceMs, tick.sinceMs);
    }
    tick.older = tick.newer = undefined;
    tick.giveUp.length = 0;
    tick.latest = -1;
  }

  // The caller's own socket keeps the process alive while a reply is due, so this timer need not. It ends at the first
  // deadline, but often before: only by its own lateness does a link know how long the event loop stood still.
  #startSweep(): void {
    const nowMs = this.#runtime.monotonicMs();
    const leftMs = (this.#oldest?.sinceMs ?? nowMs) + this.#timeoutMs - nowMs;
    const delayMs = Math.min(this.#sweepMs, Math.max(1, Math.ceil(leftMs)));
    detached(() =>
      this.#runtime.startTimer(delayMs, false, () => {
        this.#forgiveSince(nowMs + delayMs);
        // The first timer after a pause comes before the sockets: what has arrived meanwhile is read first. That may take
        // long, and send much, where all callers of a large batch go on at once.
        const firedMs = this.#runtime.monotonicMs();
        setImmediate(() => {
          this.#forgiveSince(firedMs);
          this.#sweep();
        });
      }),
    );
  }

  /**
   * A process that was stopped, or whose event loop was blocked, could read no reply in that time. The usual lateness of a
   * timer is not meant: the sockets were read all the same, and many small ones would add up.
   */
  #forgiveSince(dueMs: number): void {
    const nowMs = this.#runtime.monotonicMs();
    const lateMs = nowMs - dueMs;
    if (lateMs <= this.#sweepMs) return;
    for (let tick = this.#oldest; tick !== undefined; tick = tick.newer) {
      tick.sinceMs += Math.min(lateMs, nowMs - tick.sinceMs);
    }
  }

  #sweep(): void {
    this.#expire();
    this.#isSweeping = this.#oldest !== undefined;
    if (this.#isSweeping) this.#startSweep();
  }

  #expire(): void {
    const outage = this.#owner.outage();
    const nowMs = this.#runtime.monotonicMs();
    let tick = this.#oldest;
    while (tick !== undefined && (outage !== undefined || nowMs >= tick.sinceMs + this.#timeoutMs)) {
      const { giveUp, newer } = tick;
      const reason = outage ?? this.#owner.deadline(!this.#isOvertaken(tick));
      for (const end of giveUp) end(reason);
      this.#close(tick);
      tick = newer;
    }
  }

  #isOvertaken(tick: OpenTick): boolean {
    const answered = tick.giveUp.length - tick.unanswered;
    return this.#latestAnswered > tick.number || tick.latest >= answered;
  }
}
