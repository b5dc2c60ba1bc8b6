import { DEFAULT_LOAD } from "./default-load.js";
import type { ExperimentContext } from "./experiment.js";
import type { KeyLoad } from "./key-load.js";
import { type KeySummary, runKey } from "./key-run.js";
import { number, seconds, textTable } from "./text-table.js";

export interface SlowRecomputeRow {
  readonly load: KeyLoad;
  readonly cold: KeySummary;
}

/** Cold rebuilds that take longer than the waiters' patience. */
export function playSlowRecomputes({ random, print }: ExperimentContext): SlowRecomputeRow[] {
  const rows = [4, 8, 12, 60].flatMap((deltaSeconds) =>
    [10, 1_000].flatMap((processes) =>
      [5, 90].map((waitForLockSeconds): SlowRecomputeRow => {
        const load = { ...DEFAULT_LOAD, processes, ratePerSecond: 20 * processes, deltaSeconds, waitForLockSeconds };
        return { load, cold: runKey(random, load, "lockOnly", 50) };
      }),
    ),
  );
  print(
    textTable(rows, [
      { title: "recompute", text: ({ load }) => seconds(load.deltaSeconds) },
      { title: "waitForLock", text: ({ load }) => seconds(load.waitForLockSeconds) },
      { title: "processes", text: ({ load }) => number(load.processes) },
      { title: "recomputes", text: ({ cold }) => number(cold.recomputes) },
      { title: "Redis commands", text: ({ cold }) => number(cold.commands) },
      { title: "requests that waited", text: ({ cold }) => number(cold.waits) },
      { title: "wait p50", text: ({ cold }) => seconds(cold.waitP50Seconds) },
    ]),
  );
  return rows;
}
