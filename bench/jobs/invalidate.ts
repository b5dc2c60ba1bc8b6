import type { OpenCache } from "../contender.js";
import { machineMs } from "../harness/clock.js";
import type { Interval } from "../harness/statistics.js";

export interface InvalidateInput {
  readonly keys: readonly string[];
  /** All at once; else one after the other. */
  readonly together: boolean;
}

/** Invalidates keys, each for itself. Answers from when to when each took, on the machine's clock. */
export async function invalidate(cache: OpenCache, { keys, together }: InvalidateInput): Promise<Interval[]> {
  const invalidateOne = async (key: string): Promise<Interval> => {
    const startedAtMs = machineMs();
    await cache.invalidate(key);
    return { startedAtMs, endedAtMs: machineMs() };
  };
  if (together) return Promise.all(keys.map(invalidateOne));
  const intervals: Interval[] = [];
  for (const key of keys) intervals.push(await invalidateOne(key));
  return intervals;
}
