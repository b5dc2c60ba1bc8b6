import { randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";

/** The seam to the outside. Tests replace it to own time and chance. */
export interface Runtime {
  /** Milliseconds since the Unix epoch, as this host believes. */
  wallClockMs(): number;
  /** Milliseconds since some start; never steps back, whatever happens to the wall clock. */
  monotonicMs(): number;
  /** Uniform on (0, 1]: zero is left out, for its logarithm is infinite. */
  random(): number;
  /** 128 random bits: no two locks in the fleet share one. */
  token(): string;
  /** Runs once after the delay, unless cancelled. An idle timer (`ref: false`) does not keep the process alive. */
  startTimer(delayMs: number, ref: boolean, run: () => void): CancelTimer;
}

export type CancelTimer = () => void;

export const systemRuntime: Runtime = {
  wallClockMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  random: () => 1 - Math.random(),
  token: () => randomBytes(16).toString("hex"),
  startTimer: (delayMs, ref, run) => {
    const timer = setTimeout(run, delayMs);
    if (!ref) timer.unref();
    return () => {
      clearTimeout(timer);
    };
  },
};
