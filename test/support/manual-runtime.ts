import type { CancelTimer, Runtime } from "../../src/runtime.js";

interface Timer {
  readonly dueMs: number;
  readonly ref: boolean;
  readonly run: () => void;
}

/** Time and chance in the hands of the test: nothing moves by itself. */
export class ManualRuntime implements Runtime {
  /** What this host believes: move it alone, and the host's clock has been set. */
  wallMs = 1_700_000_000_000;
  monotonicNowMs = 0;
  draw = 1;
  #tokens = 0;
  readonly #timers = new Set<Timer>();

  wallClockMs(): number {
    return this.wallMs;
  }

  monotonicMs(): number {
    return this.monotonicNowMs;
  }

  random(): number {
    return this.draw;
  }

  memberId(): string {
    return (++this.#tokens).toString(16).padStart(16, "0");
  }

  nonce(): string {
    return (++this.#tokens).toString(16).padStart(12, "0");
  }

  startTimer(delayMs: number, ref: boolean, run: () => void): CancelTimer {
    const timer = { dueMs: this.monotonicNowMs + delayMs, ref, run };
    this.#timers.add(timer);
    return () => {
      this.#timers.delete(timer);
    };
  }

  /** Milliseconds until each timer that has not run, soonest first. */
  get delaysMs(): number[] {
    return [...this.#timers].map((timer) => timer.dueMs - this.monotonicNowMs).sort((a, b) => a - b);
  }

  /** The timers that keep a process alive. */
  get refs(): number {
    return [...this.#timers].filter((timer) => timer.ref).length;
  }

  /** Lets time pass, and runs the timers that become due, in their order. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.monotonicNowMs + ms;
    for (;;) {
      const [next] = [...this.#timers].filter(({ dueMs }) => dueMs <= untilMs).sort((a, b) => a.dueMs - b.dueMs);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#moveTo(Math.max(next.dueMs, this.monotonicNowMs));
      next.run();
      await settle();
    }
    this.#moveTo(untilMs);
    await settle();
  }

  #moveTo(monotonicMs: number): void {
    this.wallMs += monotonicMs - this.monotonicNowMs;
    this.monotonicNowMs = monotonicMs;
  }
}

/** Lets everything run that needs no reply from outside: promise reactions and what they schedule for the same turn. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}
