import type { Interval } from "../harness/statistics.js";
import type { StormOutput } from "../jobs/storm.js";

/**
 * Counts the reads that began after an invalidate had resolved and got a value whose recompute had begun before it was
 * called. What began between call and resolution may be on either side of the invalidate and counts as new enough.
 */
export function countOutdatedReads(outputs: readonly StormOutput[], invalidates: readonly Interval[]): number {
  const byResolution = [...invalidates].sort((a, b) => a.endedAtMs - b.endedAtMs);
  // Up to each resolution, the latest call among the invalidates that have resolved.
  let latestMs = -Infinity;
  const latestCallMs = byResolution.map(({ startedAtMs }) => (latestMs = Math.max(latestMs, startedAtMs)));

  let outdated = 0;
  for (const { readBeganAtMs, valueBegunAtMs } of outputs) {
    // A process notes its reads as they end, which is nearly, but not quite, the order in which they began.
    readBeganAtMs.forEach((beganAtMs, i) => {
      const resolved = countBefore(byResolution, beganAtMs);
      if (resolved > 0 && valueBegunAtMs[i]! < latestCallMs[resolved - 1]!) outdated++;
    });
  }
  return outdated;
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
