import type { OpenCache } from "../contender.js";
import { sampleValue } from "./sample-value.js";

export interface FillInput {
  readonly keys: readonly string[];
  readonly valueBytes: number;
  readonly ttlSeconds: number;
}

const AT_ONCE = 50;

/** Fills keys the way the contender itself fills them: by reading them once. */
export async function fill(cache: OpenCache, { keys, valueBytes, ttlSeconds }: FillInput): Promise<void> {
  const value = sampleValue(valueBytes);
  for (let i = 0; i < keys.length; i += AT_ONCE) {
    await Promise.all(keys.slice(i, i + AT_ONCE).map((key) => cache.get(key, ttlSeconds, async () => value)));
  }
}
