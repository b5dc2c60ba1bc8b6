import { performance } from "node:perf_hooks";
import type { Strategy } from "./strategies.js";

export interface HerdTimes {
  /** How long each caller waited for its value, in no order. */
  readonly latenciesMs: readonly number[];
  readonly wallMs: number;
}

/** Lets so many callers ask for one key in the same moment. */
export async function runHerd(strategy: Strategy, key: string, callers: number): Promise<HerdTimes> {
  const beganMs = performance.now();
  const call = async () => {
    const calledMs = performance.now();
    await strategy.read(key);
    return performance.now() - calledMs;
  };
  const latenciesMs = await Promise.all(Array.from({ length: callers }, call));
  return { latenciesMs, wallMs: performance.now() - beganMs };
}
