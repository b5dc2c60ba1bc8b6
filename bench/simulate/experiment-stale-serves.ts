import { DEFAULT_LOAD } from "./default-load.js";
import { cyclesFor, type ExperimentContext } from "./experiment.js";
import type { KeyLoad } from "./key-load.js";
import { type KeySummary, runKey } from "./key-run.js";
import { number, textTable } from "./text-table.js";

export interface StaleServesRow {
  readonly load: KeyLoad;
  readonly summary: KeySummary;
}

/** An entry that nobody refreshed early (beta 0, or an early refresh that failed), with and without `staleFor`. */
export function playStaleServes(context: ExperimentContext): StaleServesRow[] {
  const rows = [100, 10_000].flatMap((ratePerSecond) =>
    [0.05, 1].flatMap((deltaSeconds) =>
      [100, 1_000, 10_000].flatMap((processes) =>
        [0, 600].map((staleForSeconds): StaleServesRow => {
          const load = { ...DEFAULT_LOAD, ratePerSecond, deltaSeconds, processes, staleForSeconds };
          const cycles = cyclesFor(context, "lockOnly", processes);
          return { load, summary: runKey(context.random, load, "lockOnly", cycles) };
        }),
      ),
    ),
  );
  context.print(
    textTable(rows, [
      { title: "requests/s", text: ({ load }) => number(load.ratePerSecond) },
      { title: "recompute", text: ({ load }) => `${String(load.deltaSeconds)} s` },
      { title: "processes", text: ({ load }) => number(load.processes) },
      { title: "staleFor", text: ({ load }) => `${String(load.staleForSeconds)} s` },
      { title: "requests that waited", text: ({ summary }) => number(summary.waits) },
      { title: "served stale", text: ({ summary }) => number(summary.staleServes) },
      { title: "Redis commands", text: ({ summary }) => number(summary.commands) },
      { title: "wake-ups", text: ({ summary }) => number(summary.messages) },
    ]),
  );
  return rows;
}
