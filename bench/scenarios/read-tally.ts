import type { PausedRead } from "../jobs/paused-reads.js";
import { type Interval, quantile } from "../harness/statistics.js";

export interface ReadTally {
  readonly reads: number;
  /** Reads that found no valid value. */
  readonly hardMisses: number;
  readonly recomputes: number;
  /** Recomputes that began while another one ran. */
  readonly simultaneous: number;
  /** Hard misses that waited for somebody else's recompute. */
  readonly waited: number;
  readonly longestReadMs: number;
  readonly p99Ms: number;
}

/**
 * Sorts the reads of one key by what they met. That is known from outside, for every contender alike: a value is valid
 * for its ttl from the end of its recompute on. Each worker's first read is left out, as the key may be cold then.
 */
export function tallyReads(reads: readonly PausedRead[], ttlMs: number): ReadTally {
  const counted = reads.filter((read) => !read.isFirst);
  const recomputes = reads.flatMap((read) => (read.recompute ? [read.recompute] : []));
  const isMiss = (read: PausedRead): boolean =>
    !recomputes.some(({ endedAtMs }) => endedAtMs <= read.startedAtMs && read.startedAtMs < endedAtMs + ttlMs);
  const misses = counted.filter(isMiss);
  const ownRecomputes = counted.flatMap((read) => (read.recompute ? [read.recompute] : []));
  const latenciesMs = counted.map((read) => read.endedAtMs - read.startedAtMs);
  return {
    reads: counted.length,
    hardMisses: misses.length,
    recomputes: ownRecomputes.length,
    simultaneous: ownRecomputes.filter((recompute) => beginsDuringAnother(recompute, recomputes)).length,
    waited: misses.filter((read) => !read.recompute).length,
    longestReadMs: quantile(latenciesMs, 1),
    p99Ms: quantile(latenciesMs, 0.99),
  };
}

function beginsDuringAnother(recompute: Interval, all: readonly Interval[]): boolean {
  return all.some(
    (other) =>
      other !== recompute && other.startedAtMs <= recompute.startedAtMs && recompute.startedAtMs < other.endedAtMs,
  );
}
