import { DEFAULT_LOAD } from "./default-load.js";
import { cyclesFor, type ExperimentContext } from "./experiment.js";
import type { KeyLoad } from "./key-load.js";
import { type KeySummary, runKey } from "./key-run.js";
import { number, percent, seconds, textTable } from "./text-table.js";

export interface ShortTtlRow {
  readonly load: KeyLoad;
  readonly summary: KeySummary;
}

/** How much of its ttl an entry lives, when the early refresh of a dear and hot key comes long before expiry. */
export function playShortTtls(context: ExperimentContext): ShortTtlRow[] {
  const rows = [0.05, 1, 10, 60].flatMap((deltaSeconds) =>
    [100, 10_000, 1_000_000].map((ratePerSecond): ShortTtlRow => {
      const load = { ...DEFAULT_LOAD, deltaSeconds, ratePerSecond, waitForLockSeconds: 90 };
      return {
        load,
        summary: runKey(context.random, load, "cachefence", cyclesFor(context, "cachefence", load.processes)),
      };
    }),
  );
  context.print(
    textTable(rows, [
      { title: "recompute", text: ({ load }) => seconds(load.deltaSeconds) },
      { title: "requests/s", text: ({ load }) => number(load.ratePerSecond) },
      { title: "ttl", text: ({ load }) => seconds(load.ttlSeconds) },
      { title: "first refresh before expiry", text: ({ summary }) => seconds(summary.refreshedEarlySeconds) },
      { title: "from store to store", text: ({ summary }) => seconds(summary.cycleSeconds) },
      {
        title: "time spent recomputing",
        text: ({ load, summary }) => percent(Math.min(load.deltaSeconds / summary.cycleSeconds, 1)),
      },
    ]),
  );
  return rows;
}
