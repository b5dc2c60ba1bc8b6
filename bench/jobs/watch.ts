import { setTimeout as sleep } from "node:timers/promises";
import type { OpenCache } from "../contender.js";
import { machineMs } from "../harness/clock.js";
import type { JudgedReads } from "../scenarios/outdated-reads.js";

export interface WatchInput {
  readonly keys: readonly string[];
  readonly pauseMs: number;
  readonly recomputeMs: number;
  readonly ttlSeconds: number;
}

interface StampedValue {
  readonly recomputeBegunAtMs: number;
}

export interface WatchOutput {
  /** In the order of the keys. */
  readonly reads: readonly JudgedReads[];
  readonly failures: number;
}

let isWatched = false;

/** Reads all keys again and again until {@link endWatch}, and notes how old each value is. */
export async function watch(cache: OpenCache, input: WatchInput): Promise<WatchOutput> {
  const { keys, pauseMs, recomputeMs, ttlSeconds } = input;
  const readBeganAtMs = keys.map((): number[] => []);
  const valueBegunAtMs = keys.map((): number[] => []);
  const isReading = keys.map(() => false);
  let failures = 0;

  const recompute = async (): Promise<StampedValue> => {
    const recomputeBegunAtMs = machineMs();
    await sleep(recomputeMs);
    return { recomputeBegunAtMs };
  };
  const read = async (index: number, beganAtMs: number): Promise<void> => {
    isReading[index] = true;
    try {
      const value = await cache.get(keys[index]!, ttlSeconds, recompute);
      readBeganAtMs[index]!.push(beganAtMs);
      valueBegunAtMs[index]!.push(value.recomputeBegunAtMs);
    } catch {
      failures++;
    }
    isReading[index] = false;
  };

  isWatched = true;
  const reads: Promise<void>[] = [];
  while (isWatched) {
    await sleep(pauseMs);
    // All reads of this turn count from its opening: within a turn nobody can have learned of an invalidate elsewhere.
    const openedAtMs = machineMs();
    keys.forEach((_, index) => {
      if (!isReading[index]) reads.push(read(index, openedAtMs));
    });
  }
  await Promise.all(reads);
  return {
    reads: keys.map((_, index) => ({
      readBeganAtMs: Float64Array.from(readBeganAtMs[index]!),
      valueBegunAtMs: Float64Array.from(valueBegunAtMs[index]!),
    })),
    failures,
  };
}

export async function endWatch(): Promise<void> {
  isWatched = false;
}
