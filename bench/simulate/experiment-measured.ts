import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Cycle } from "./cycle.js";
import { DEFAULT_LOAD } from "./default-load.js";
import type { ExperimentContext } from "./experiment.js";
import type { KeyLoad, Policy } from "./key-load.js";
import { playCycle } from "./key-run.js";
import { number, textTable } from "./text-table.js";
import { WaitLedger } from "./wait-ledger.js";

interface Spread {
  readonly mean: number;
  /** Nine runs of ten lie between these two. */
  readonly low: number;
  readonly high: number;
}

/** One row of the steady load as it was measured, and the same load simulated many times over. */
export interface MeasuredRow {
  readonly policy: Policy;
  readonly load: KeyLoad;
  readonly seconds: number;
  readonly recomputes: { readonly measured: number; readonly simulated: Spread };
  readonly hardMisses: { readonly measured: number; readonly simulated: Spread };
}

const CONTENDERS: Readonly<Record<string, Policy>> = {
  naive: "naive",
  "lock only": "lockOnly",
  "XFetch only": "xfetchOnly",
  cachefence: "cachefence",
};
// As in ../scenarios/steady-load.ts.
const SECONDS = 280;
const WORKERS = { processes: 50, ttlSeconds: 20, deltaSeconds: 0.5 };

interface MeasuredSteadyLoad {
  readonly outcome: {
    readonly rows: readonly { contender: string; reads: number; recomputes: number; hardMisses: number }[];
  };
}

/** Beside `bench/results/steady-load.json`. */
export function compareWithMeasured({ random, isShort, print }: ExperimentContext): MeasuredRow[] {
  const path = fileURLToPath(new URL("../results/steady-load.json", import.meta.url));
  const { outcome } = JSON.parse(readFileSync(path, "utf8")) as MeasuredSteadyLoad;
  const runs = isShort ? 200 : 2_000;
  const rows = outcome.rows.map(({ contender, reads, recomputes, hardMisses }): MeasuredRow => {
    const policy = CONTENDERS[contender];
    if (policy === undefined) throw new Error(`No policy is simulated for the contender ${contender}`);
    const load = { ...DEFAULT_LOAD, ...WORKERS, ratePerSecond: reads / SECONDS };
    const played = Array.from({ length: runs }, () => {
      let [elapsed, ofRecomputes, ofHardMisses] = [0, 0, 0];
      for (;;) {
        const cycle = playCycle(random, load, policy, new WaitLedger());
        elapsed += cycle.seconds;
        if (elapsed > SECONDS) return { recomputes: ofRecomputes, hardMisses: ofHardMisses };
        ofRecomputes += cycle.recomputes;
        ofHardMisses += hardMissesOf(policy, cycle);
      }
    });
    const simulated = (of: "recomputes" | "hardMisses") => spreadOf(played.map((run) => run[of]));
    return {
      ...{ policy, load, seconds: SECONDS },
      recomputes: { measured: recomputes, simulated: simulated("recomputes") },
      hardMisses: { measured: hardMisses, simulated: simulated("hardMisses") },
    };
  });
  const shown = ({ mean, low, high }: Spread) => `${number(mean)} (${number(low)}..${number(high)})`;
  print(
    textTable(rows, [
      { title: "policy", text: ({ policy }) => policy },
      { title: "requests/s", text: ({ load }) => number(load.ratePerSecond) },
      { title: "recomputes: measured", text: (row) => number(row.recomputes.measured) },
      { title: "simulated", text: (row) => shown(row.recomputes.simulated) },
      { title: "hard misses: measured", text: (row) => number(row.hardMisses.measured) },
      { title: "simulated", text: (row) => shown(row.hardMisses.simulated) },
    ]),
  );
  return rows;
}

/** Requests that found no value to be served. */
function hardMissesOf(policy: Policy, cycle: Cycle): number {
  if (policy === "naive") return cycle.recomputes;
  // Of uncoordinated refreshes only whether there were any.
  if (policy === "xfetchOnly") return Number(cycle.isHardMiss);
  return cycle.waitingRequests + Number(cycle.isUnrefreshed);
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = Float64Array.from(values).sort();
  const at = (share: number) => sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)] ?? 0;
  return { mean: values.reduce((sum, value) => sum + value, 0) / values.length, low: at(0.05), high: at(0.95) };
}
