import { setTimeout as sleep } from "node:timers/promises";
import type { OpenCache } from "../contender.js";
import { machineMs } from "../harness/clock.js";
import { type Interval, quantile } from "../harness/statistics.js";
import { startTogether } from "./start-together.js";

export interface StormInput {
  readonly key: string;
  readonly readers: number;
  readonly pauseMs: number;
  readonly recomputeMs: number;
  readonly ttlSeconds: number;
  /** From the start on, in order. */
  readonly invalidateAfterMs: readonly number[];
  /** On the machine's clock. */
  readonly startAtMs: number;
  readonly endAtMs: number;
}

export interface StormOutput {
  /** Of each read, when it began, and when the recompute of the value that it got had begun. */
  readonly readBeganAtMs: Float64Array;
  readonly valueBegunAtMs: Float64Array;
  readonly recomputes: readonly Interval[];
  /** From the call of an invalidate until it resolved. */
  readonly invalidates: readonly Interval[];
  readonly readP99Ms: number;
  readonly failures: number;
}

interface StampedValue {
  readonly recomputeBegunAtMs: number;
}

/** Reads one key as often as its readers can, and deletes it now and then, as a service does whose rows change. */
export async function storm(cache: OpenCache, input: StormInput): Promise<StormOutput> {
  const { key, readers, pauseMs, recomputeMs, ttlSeconds, invalidateAfterMs } = input;
  const readBeganAtMs: number[] = [];
  const valueBegunAtMs: number[] = [];
  const latenciesMs: number[] = [];
  const recomputes: Interval[] = [];
  const invalidates: Interval[] = [];
  let failures = 0;

  const recompute = async (): Promise<StampedValue> => {
    const startedAtMs = machineMs();
    await sleep(recomputeMs);
    recomputes.push({ startedAtMs, endedAtMs: machineMs() });
    return { recomputeBegunAtMs: startedAtMs };
  };
  const readUntilTheEnd = async (): Promise<void> => {
    for (let nowMs = machineMs(); nowMs < input.endAtMs; nowMs = machineMs()) {
      try {
        const value = await cache.get(key, ttlSeconds, recompute);
        readBeganAtMs.push(nowMs);
        valueBegunAtMs.push(value.recomputeBegunAtMs);
        latenciesMs.push(machineMs() - nowMs);
      } catch {
        failures++;
      }
      await sleep(pauseMs);
    }
  };
  const invalidateUntilTheEnd = async (): Promise<void> => {
    for (const afterMs of invalidateAfterMs) {
      await sleep(Math.max(0, input.startAtMs + afterMs - machineMs()));
      const startedAtMs = machineMs();
      await cache.invalidate(key);
      invalidates.push({ startedAtMs, endedAtMs: machineMs() });
    }
  };

  await cache.get(key, ttlSeconds, recompute);
  await startTogether(input.startAtMs);
  recomputes.length = 0;
  await Promise.all([...Array.from({ length: readers }, readUntilTheEnd), invalidateUntilTheEnd()]);
  return {
    readBeganAtMs: Float64Array.from(readBeganAtMs),
    valueBegunAtMs: Float64Array.from(valueBegunAtMs),
    recomputes,
    invalidates,
    readP99Ms: quantile(latenciesMs, 0.99),
    failures,
  };
}
