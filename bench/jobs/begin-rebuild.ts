import { setTimeout as sleep } from "node:timers/promises";
import type { OpenCache } from "../contender.js";
import { sampleValue } from "./sample-value.js";

export interface BeginRebuildInput {
  readonly key: string;
  readonly recomputeMs: number;
  readonly ttlSeconds: number;
}

/** Reads a cold key and answers as soon as its recompute has begun; the process is then killed in the middle of it. */
export async function beginRebuild(
  cache: OpenCache,
  { key, recomputeMs, ttlSeconds }: BeginRebuildInput,
): Promise<void> {
  await new Promise<void>((begun, failed) => {
    cache
      .get(key, ttlSeconds, async () => {
        begun();
        await sleep(recomputeMs);
        return sampleValue(300);
      })
      .catch(failed);
  });
}
