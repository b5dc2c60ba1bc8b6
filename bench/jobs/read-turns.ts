import { setImmediate as nextTurn } from "node:timers/promises";
import type { OpenCache } from "../contender.js";

export interface ReadTurnsInput {
  readonly keys: readonly string[];
  readonly callers: number;
  readonly durationMs: number;
  readonly ttlSeconds: number;
}

export interface ReadTurnsOutput {
  readonly hits: number;
  readonly elapsedMs: number;
}

// Seldom enough to cost a hit from memory next to nothing, often enough that messages are heard as in a service.
const READS_A_TURN = 50;

/**
 * Reads filled keys as fast as so many callers can, and gives the turn away now and then: hits from memory alone would
 * never let the process hear of anything. The clock is asked once a turn, for it costs as much as a look into a Map.
 */
export async function readTurns(
  cache: OpenCache,
  { keys, callers, durationMs, ttlSeconds }: ReadTurnsInput,
): Promise<ReadTurnsOutput> {
  const stride = Math.max(1, Math.floor(keys.length / callers));
  const startedAtMs = performance.now();
  const endMs = startedAtMs + durationMs;
  let hits = 0;

  const readUntilTheEnd = async (caller: number): Promise<void> => {
    let next = caller * stride;
    while (performance.now() < endMs) {
      for (let read = 0; read < READS_A_TURN; read++) await cache.get(keys[next++ % keys.length]!, ttlSeconds, missed);
      hits += READS_A_TURN;
      await nextTurn();
    }
  };
  await Promise.all(Array.from({ length: callers }, (_, caller) => readUntilTheEnd(caller)));
  return { hits, elapsedMs: performance.now() - startedAtMs };
}

async function missed(): Promise<never> {
  throw new Error("A read of a filled key missed");
}
