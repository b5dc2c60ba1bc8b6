import { setTimeout as sleep } from "node:timers/promises";
import type { OpenCache } from "../contender.js";
import { machineMs } from "../harness/clock.js";
import type { Interval } from "../harness/statistics.js";
import { sampleValue } from "./sample-value.js";
import { startTogether } from "./start-together.js";

export interface StampedeInput {
  readonly key: string;
  readonly callers: number;
  readonly recomputeMs: number;
  readonly ttlSeconds: number;
  /** On the machine's clock: all processes begin at this moment. */
  readonly startAtMs: number;
}

export interface StampedeOutput {
  readonly recomputes: readonly Interval[];
  /** Per caller that got a value, from its call on. */
  readonly latenciesMs: readonly number[];
  /** The same callers, on the machine's clock. */
  readonly finishedAtMs: readonly number[];
  readonly failures: number;
}

/** Many callers of one cold key, all in one tick. */
export async function stampede(cache: OpenCache, input: StampedeInput): Promise<StampedeOutput> {
  const { key, callers, recomputeMs, ttlSeconds, startAtMs } = input;
  const recomputes: Interval[] = [];
  const latenciesMs: number[] = [];
  const finishedAtMs: number[] = [];
  let failures = 0;

  const recompute = async (): Promise<unknown> => {
    const startedAtMs = machineMs();
    await sleep(recomputeMs);
    recomputes.push({ startedAtMs, endedAtMs: machineMs() });
    return sampleValue(300);
  };
  const call = async (): Promise<void> => {
    const calledAtMs = machineMs();
    try {
      await cache.get(key, ttlSeconds, recompute);
      const doneMs = machineMs();
      latenciesMs.push(doneMs - calledAtMs);
      finishedAtMs.push(doneMs);
    } catch {
      failures++;
    }
  };

  await startTogether(startAtMs);
  await Promise.all(Array.from({ length: callers }, call));
  return { recomputes, latenciesMs, finishedAtMs, failures };
}
