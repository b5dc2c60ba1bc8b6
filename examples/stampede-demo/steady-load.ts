import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import type { Strategy } from "./strategies.js";

export interface LoadResult {
  readonly requests: number;
  /** How many got the answer of a query that had not ended when they came: they have waited for it. */
  readonly waited: number;
  readonly latenciesMs: readonly number[];
}

export interface Load {
  readonly requestsPerSecond: number;
  readonly durationMs: number;
}

const TICK_MS = 1;

/** Sends the requests at a steady pace, whether or not earlier ones have been answered, and waits for all answers. */
export async function runSteadyLoad(strategy: Strategy, key: string, load: Load): Promise<LoadResult> {
  let waited = 0;
  const latenciesMs: number[] = [];
  const request = async () => {
    const calledMs = performance.now();
    const answer = await strategy.read(key);
    latenciesMs.push(performance.now() - calledMs);
    if (answer.answeredAtMs > calledMs) waited += 1;
  };

  const requests: Promise<void>[] = [];
  const beganMs = performance.now();
  for (let elapsedMs = 0; elapsedMs < load.durationMs; elapsedMs = performance.now() - beganMs) {
    const due = Math.floor((elapsedMs * load.requestsPerSecond) / 1000);
    while (requests.length < due) {
      const next = request();
      // Reported by the Promise.all below; until then it must not count as unhandled.
      next.catch(() => undefined);
      requests.push(next);
    }
    await sleep(TICK_MS);
  }
  await Promise.all(requests);
  return { requests: requests.length, waited, latenciesMs };
}
