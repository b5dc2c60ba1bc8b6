import type { OpenCache } from "../contender.js";
import { sampleValue } from "./sample-value.js";

export interface HoldCopiesInput {
  readonly keys: readonly string[];
  readonly ttlSeconds: number;
}

// The first read fills a cold key, the second finds it, the third keeps a copy, the fourth is a hit from it.
const READS = 4;

/** Reads keys often enough for a memory tier to hold them. */
export async function holdCopies(cache: OpenCache, { keys, ttlSeconds }: HoldCopiesInput): Promise<void> {
  const value = sampleValue(300);
  for (let read = 0; read < READS; read++) {
    await Promise.all(keys.map((key) => cache.get(key, ttlSeconds, async () => value)));
  }
}
