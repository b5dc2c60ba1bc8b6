import type { Interval } from "../harness/statistics.js";

/** Reads of one process, in any order. */
export interface JudgedReads {
  /** Of each read, when it began, and when the recompute of the value that it got had begun. */
  readonly readBeganAtMs: Float64Array;
  readonly valueBegunAtMs: Float64Array;
}

export interface OutdatedReads {
  readonly count: number;
  /** The longest time from the resolution of an invalidate to the beginning of a read that it should have reached. */
  readonly longestMs: number;
}

/**
 * Finds the reads that began after an invalidate had resolved and got a value whose recompute had begun before it was
 * called. What began between call and resolution may be on either side of the invalidate and counts as new enough.
 */
export function findOutdatedReads(outputs: readonly JudgedReads[], invalidates: readonly Interval[]): OutdatedReads {
  const byResolution = [...invalidates].sort((a, b) => a.endedAtMs - b.endedAtMs);
  // Up to each resolution, the latest call among the invalidates that have resolved.
  let latestMs = -Infinity;
  const latestCallMs = byResolution.map(({ startedAtMs }) => (latestMs = Math.max(latestMs, startedAtMs)));

  let count = 0;
  let longestMs = 0;
  for (const { readBeganAtMs, valueBegunAtMs } of outputs) {
    // A process notes its reads as they end, which is nearly, but not quite, the order in which they began.
    readBeganAtMs.forEach((beganAtMs, i) => {
      const begunAtMs = valueBegunAtMs[i]!;
      const resolved = countBefore(byResolution, beganAtMs);
      if (resolved === 0 || begunAtMs >= latestCallMs[resolved - 1]!) return;
      count++;
      const missed = byResolution.find(({ startedAtMs }) => startedAtMs > begunAtMs);
      if (missed) longestMs = Math.max(longestMs, beganAtMs - missed.endedAtMs);
    });
  }
  return { count, longestMs };
}

function countBefore(byResolution: readonly Interval[], atMs: number): number {
  let low = 0;
  let high = byResolution.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (byResolution[middle]!.endedAtMs < atMs) low = middle + 1;
    else high = middle;
  }
  return low;
}
