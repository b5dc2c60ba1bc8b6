import { setTimeout as sleep } from "node:timers/promises";
import type { OpenCache } from "../contender.js";
import { machineMs } from "../harness/clock.js";
import type { Interval } from "../harness/statistics.js";
import { sampleValue } from "./sample-value.js";
import { startTogether } from "./start-together.js";

export interface PausedReadsInput {
  readonly key: string;
  readonly workers: number;
  /** Whether each worker has connections and a cache of its own and so stands for a process; else they share one. */
  readonly separateCaches: boolean;
  readonly shortestPauseMs: number;
  readonly longestPauseMs: number;
  readonly recomputeMs: number;
  readonly ttlSeconds: number;
  readonly durationMs: number;
  /** On the machine's clock. */
  readonly startAtMs: number;
}

export interface PausedRead extends Interval {
  /** The recompute that ran on behalf of this read. */
  readonly recompute?: Interval;
  /** A worker's first; the key may be cold. */
  readonly isFirst: boolean;
}

/** Workers that, over and over, pause for a random time and then read one key. */
export async function pausedReads(
  cache: OpenCache,
  input: PausedReadsInput,
  openAnother: () => Promise<OpenCache>,
): Promise<PausedRead[]> {
  const { key, workers, shortestPauseMs, longestPauseMs, recomputeMs, ttlSeconds, startAtMs } = input;
  const endAtMs = startAtMs + input.durationMs;
  const caches = await Promise.all(
    Array.from({ length: workers }, () => (input.separateCaches ? openAnother() : cache)),
  );
  const reads: PausedRead[] = [];

  const readOnce = async (own: OpenCache, isFirst: boolean): Promise<void> => {
    const startedAtMs = machineMs();
    let recompute: Interval | undefined;
    await own.get(key, ttlSeconds, async () => {
      const recomputeStartedAtMs = machineMs();
      await sleep(recomputeMs);
      recompute = { startedAtMs: recomputeStartedAtMs, endedAtMs: machineMs() };
      return sampleValue(300);
    });
    reads.push({ startedAtMs, endedAtMs: machineMs(), isFirst, ...(recompute && { recompute }) });
  };
  const work = async (own: OpenCache): Promise<void> => {
    for (let isFirst = true; machineMs() < endAtMs; isFirst = false) {
      await sleep(shortestPauseMs + Math.random() * (longestPauseMs - shortestPauseMs));
      await readOnce(own, isFirst);
    }
  };

  await startTogether(startAtMs);
  await Promise.all(caches.map(work));
  if (input.separateCaches) await Promise.all(caches.map((own) => own.close()));
  return reads;
}
