import { AsyncResource } from "node:async_hooks";
import { randomBytes } from "node:crypto";

/** The seam to the outside. Tests replace it to own time and chance. */
export interface Runtime {
  /** Milliseconds since the Unix epoch, as this host believes. */
  wallClockMs(): number;
  /** Milliseconds since some start; never steps back, whatever happens to the wall clock. */
  monotonicMs(): number;
  /** Uniform on (0, 1]: zero is left out, for its logarithm is infinite. */
  random(): number;
  /** 64 random bits in 16 hex digits: no two members of the fleet share one. */
  memberId(): string;
  /** 48 random bits in 12 hex digits: no two claims or fences of a member share one. */
  nonce(): string;
  /** Runs once after the delay, unless cancelled. An idle timer (`ref: false`) does not keep the process alive. */
  startTimer(delayMs: number, ref: boolean, run: () => void): CancelTimer;
}

export type CancelTimer = () => void;

/** To the microsecond: no clock here is better, and a shorter number is read faster. */
export function roundSeconds(seconds: number): number {
  return Math.round(seconds * 1e6) / 1e6;
}

const outside = new AsyncResource("cachefence");

/** Runs what outlives the call that begins it, so that nothing of a request's AsyncLocalStorage is kept with it. */
export function detached<T>(run: () => T): T {
  return outside.runInAsyncScope(run);
}

/** Runs in the context in which this was called, whoever calls it later. */
export function bound<A extends unknown[], T>(run: (...args: A) => T): (...args: A) => T {
  const here = new AsyncResource("cachefence");
  return (...args) => here.runInAsyncScope(run, undefined, ...args);
}

// `performance` is looked up at each call: fake timers replace the global one.
export const systemRuntime: Runtime = {
  wallClockMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  random: () => 1 - Math.random(),
  memberId: () => randomBytes(8).toString("hex"),
  nonce: () => randomBytes(6).toString("hex"),
  startTimer: (delayMs, ref, run) => {
    const timer: unknown = ref ? setTimeout(run, delayMs) : detached(() => setTimeout(run, delayMs));
    // A timer is a number in a browser, and where jsdom plays one.
    if (!ref && typeof timer === "object") (timer as { unref?(): void }).unref?.();
    return () => {
      clearTimeout(timer as NodeJS.Timeout);
    };
  },
};
