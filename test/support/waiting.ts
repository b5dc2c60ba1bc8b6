import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

/** Resolves once the condition holds; rejects, naming it, if it does not within `patienceMs`. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, patienceMs = 10_000): Promise<void> {
  const deadlineMs = performance.now() + patienceMs;
  while (!(await holds())) {
    if (performance.now() > deadlineMs) throw new Error(`Waited ${patienceMs} ms in vain until ${what}`);
    await sleep(10);
  }
}

/** How a promise ended, and how long that took. */
export interface Ended<T> {
  readonly value?: T;
  readonly error?: Error;
  readonly ms: number;
}

export async function ended<T>(promise: Promise<T>): Promise<Ended<T>> {
  const beganMs = performance.now();
  try {
    const value = await promise;
    return { value, ms: performance.now() - beganMs };
  } catch (error) {
    return { error: error as Error, ms: performance.now() - beganMs };
  }
}
