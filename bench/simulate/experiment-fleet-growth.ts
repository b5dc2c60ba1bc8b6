import { DEFAULT_LOAD } from "./default-load.js";
import { cyclesFor, type ExperimentContext } from "./experiment.js";
import { type KeyLoad, POLICIES, type Policy } from "./key-load.js";
import { type KeySummary, runKey } from "./key-run.js";
import { number, percent, textTable } from "./text-table.js";

/** `lockOnly` is also what a cold rebuild costs under cachefence: after an invalidate, or of a key that nothing refreshed. */
export interface FleetGrowthRow {
  readonly processes: number;
  readonly load: KeyLoad;
  readonly byPolicy: Readonly<Record<Policy, KeySummary>>;
}

const PROCESSES = [1, 2, 4, 8, 16, 32, 64, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/** A hot key whose traffic grows with the fleet: each process asks for it 20 times a second. */
export function growFleet(context: ExperimentContext): FleetGrowthRow[] {
  const rows = PROCESSES.map((processes): FleetGrowthRow => {
    const load = { ...DEFAULT_LOAD, processes, ratePerSecond: 20 * processes, deltaSeconds: 0.7 };
    const byPolicy = Object.fromEntries(
      POLICIES.map((policy) => [policy, runKey(context.random, load, policy, cyclesFor(context, policy, processes))]),
    ) as Record<Policy, KeySummary>;
    return { processes, load, byPolicy };
  });
  context.print(
    textTable(rows, [
      { title: "processes", text: ({ processes }) => number(processes) },
      { title: "recomputes: naive", text: ({ byPolicy }) => number(byPolicy.naive.recomputes) },
      { title: "coalescing", text: ({ byPolicy }) => number(byPolicy.coalescing.recomputes) },
      { title: "XFetch only", text: ({ byPolicy }) => number(byPolicy.xfetchOnly.recomputes) },
      { title: "cachefence", text: ({ byPolicy }) => number(byPolicy.cachefence.recomputes) },
      { title: "hard miss", text: ({ byPolicy }) => percent(byPolicy.cachefence.hardMissShare) },
      { title: "early: commands", text: ({ byPolicy }) => number(byPolicy.cachefence.commands) },
      { title: "wake-ups", text: ({ byPolicy }) => number(byPolicy.cachefence.messages) },
      { title: "cold: commands", text: ({ byPolicy }) => number(byPolicy.lockOnly.commands) },
      { title: "wake-ups", text: ({ byPolicy }) => number(byPolicy.lockOnly.messages) },
      { title: "requests that waited", text: ({ byPolicy }) => number(byPolicy.lockOnly.waits) },
    ]),
  );
  return rows;
}
