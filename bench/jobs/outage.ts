import { setTimeout as sleep } from "node:timers/promises";
import type { OpenCache } from "../contender.js";
import { machineMs } from "../harness/clock.js";
import type { Interval } from "../harness/statistics.js";
import { sampleValue } from "./sample-value.js";
import { startTogether } from "./start-together.js";

export interface OutageInput {
  readonly key: string;
  readonly callers: number;
  readonly recomputeMs: number;
  readonly retryAfterMs: number;
  readonly ttlSeconds: number;
  /** On the machine's clock: the callers begin, the source answers again, the callers give up. */
  readonly startAtMs: number;
  readonly backAtMs: number;
  readonly giveUpAtMs: number;
}

export interface OutageOutput {
  /** Good and bad ones. */
  readonly recomputes: readonly Interval[];
  /** Per caller that got a value in the end. */
  readonly finishedAtMs: readonly number[];
  /** Rejected calls; a caller may have several. */
  readonly errors: number;
}

/** Callers of one cold key whose source is down. A caller that gets an error calls again a little later. */
export async function outage(cache: OpenCache, input: OutageInput): Promise<OutageOutput> {
  const { key, callers, recomputeMs, retryAfterMs, ttlSeconds, startAtMs, backAtMs, giveUpAtMs } = input;
  const recomputes: Interval[] = [];
  const finishedAtMs: number[] = [];
  let errors = 0;

  const recompute = async (): Promise<unknown> => {
    const startedAtMs = machineMs();
    await sleep(recomputeMs);
    recomputes.push({ startedAtMs, endedAtMs: machineMs() });
    if (startedAtMs < backAtMs) throw new Error("The source is down");
    return sampleValue(300);
  };
  const callUntilAnswered = async (): Promise<void> => {
    while (machineMs() < giveUpAtMs) {
      try {
        await cache.get(key, ttlSeconds, recompute);
        finishedAtMs.push(machineMs());
        return;
      } catch {
        errors++;
        await sleep(retryAfterMs);
      }
    }
  };

  await startTogether(startAtMs);
  await Promise.all(Array.from({ length: callers }, callUntilAnswered));
  return { recomputes, finishedAtMs, errors };
}
