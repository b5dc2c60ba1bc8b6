import type { OpenCache } from "../contender.js";
import { quantileOfSorted } from "../harness/statistics.js";

export interface ReadHitsInput {
  /** With more than one key, no two callers have the same key in flight. */
  readonly keys: readonly string[];
  readonly callers: number;
  readonly durationMs: number;
  readonly ttlSeconds: number;
}

export interface ReadHitsOutput {
  readonly hits: number;
  readonly elapsedMs: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

const MOST_SAMPLES = 4_000_000;
// Reused from job to job: allocating it anew would be garbage for the next slice to collect.
let samplesMs = new Float64Array(0);

/** Reads filled keys as fast as so many callers can, each reading again as soon as it has its value. */
export async function readHits(
  cache: OpenCache,
  { keys, callers, durationMs, ttlSeconds }: ReadHitsInput,
): Promise<ReadHitsOutput> {
  if (samplesMs.length === 0) samplesMs = new Float64Array(MOST_SAMPLES);
  let hits = 0;
  const startedAtMs = performance.now();
  const endMs = startedAtMs + durationMs;
  const stride = Math.max(1, Math.floor(keys.length / callers));

  const readUntilTheEnd = async (caller: number): Promise<void> => {
    let next = caller * stride;
    let nowMs = performance.now();
    while (nowMs < endMs && hits < MOST_SAMPLES) {
      await cache.get(keys[next++ % keys.length]!, ttlSeconds, missed);
      const doneMs = performance.now();
      samplesMs[hits++] = doneMs - nowMs;
      nowMs = doneMs;
    }
  };
  await Promise.all(Array.from({ length: callers }, (_, caller) => readUntilTheEnd(caller)));

  const elapsedMs = performance.now() - startedAtMs;
  const sorted = samplesMs.subarray(0, hits).sort();
  return { hits, elapsedMs, p50Us: quantileOfSorted(sorted, 0.5) * 1000, p99Us: quantileOfSorted(sorted, 0.99) * 1000 };
}

async function missed(): Promise<never> {
  throw new Error("A read of the hit path missed");
}
