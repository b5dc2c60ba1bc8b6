import { DEFAULT_LOAD } from "./default-load.js";
import { cyclesFor, type ExperimentContext } from "./experiment.js";
import { type KeyLoad, POLICIES, type Policy } from "./key-load.js";
import { type KeySummary, runKey } from "./key-run.js";
import { number, percent, seconds, textTable } from "./text-table.js";

export interface LoadGridRow {
  readonly policy: Policy;
  readonly load: KeyLoad;
  readonly summary: KeySummary;
}

const RATES = [10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const DELTAS_SECONDS = [0.001, 0.05, 1, 60];
const BETAS = [0.5, 1, 2];
const PROCESSES = [1, 10, 100, 1_000, 10_000];

/**
 * Every policy over the whole range of one key's rate, cost, beta and fleet. The ttl is an hour, so that even the longest
 * recompute is refreshed early and not at once, and `waitForLock` is set above the recompute, as it should be.
 */
export function playLoadGrid(context: ExperimentContext): LoadGridRow[] {
  const rows: LoadGridRow[] = [];
  for (const policy of POLICIES) {
    const isEarly = policy === "xfetchOnly" || policy === "cachefence";
    const knowsProcesses = policy !== "naive" && policy !== "xfetchOnly";
    for (const deltaSeconds of DELTAS_SECONDS) {
      for (const beta of isEarly ? BETAS : [1]) {
        for (const processes of knowsProcesses ? PROCESSES : [100]) {
          for (const ratePerSecond of RATES) {
            const waitForLockSeconds = Math.max(DEFAULT_LOAD.waitForLockSeconds, 1.5 * deltaSeconds);
            const load = {
              ...DEFAULT_LOAD,
              ...{ ratePerSecond, deltaSeconds, beta, processes, waitForLockSeconds, ttlSeconds: 3_600 },
            };
            const cycles = cyclesFor(context, policy, processes);
            rows.push({ policy, load, summary: runKey(context.random, load, policy, cycles) });
          }
        }
      }
    }
  }

  for (const deltaSeconds of DELTAS_SECONDS) {
    context.print(`\nOne key, recompute ${seconds(deltaSeconds)}, beta 1, 100 processes; per cycle:\n`);
    const shown = rows.filter(
      ({ load, policy }) =>
        load.deltaSeconds === deltaSeconds &&
        load.beta === 1 &&
        load.processes === 100 &&
        policy !== "coalescing" &&
        [10, 1_000, 100_000, 10_000_000].includes(load.ratePerSecond),
    );
    shown.sort((one, other) => one.load.ratePerSecond - other.load.ratePerSecond);
    context.print(
      textTable(shown, [
        { title: "requests/s", text: ({ load }) => number(load.ratePerSecond) },
        { title: "policy", text: ({ policy }) => policy },
        { title: "recomputes", text: ({ summary }) => number(summary.recomputes) },
        { title: "hard miss", text: ({ summary }) => percent(summary.hardMissShare) },
        { title: "requests that waited", text: ({ summary }) => number(summary.waits) },
        { title: "wait p50", text: ({ summary }) => seconds(summary.waitP50Seconds) },
        { title: "p99", text: ({ summary }) => seconds(summary.waitP99Seconds) },
        { title: "Redis commands", text: ({ summary }) => number(summary.commands) },
        { title: "wake-ups", text: ({ summary }) => number(summary.messages) },
      ]),
    );
  }
  return rows;
}
