import {
  exactFoundExpiredChance,
  exactMeanFirstRefreshSeconds,
  exactUncoordinatedRecomputes,
  hardMissChance,
  meanFirstRefreshSeconds,
  uncoordinatedRecomputes,
} from "./closed-forms.js";
import { DEFAULT_LOAD } from "./default-load.js";
import type { ExperimentContext } from "./experiment.js";
import { refreshHazard } from "./key-load.js";
import { runKey } from "./key-run.js";
import { number, percent, seconds, textTable } from "./text-table.js";

/** One key, simulated and computed. `early` is rate * beta * delta; the `limit` fields hold for large values of it only. */
export interface ClosedFormRow {
  readonly beta: number;
  readonly deltaSeconds: number;
  readonly ratePerSecond: number;
  readonly early: number;
  readonly recomputes: { readonly simulated: number; readonly exact: number; readonly limit: number };
  readonly unrefreshedShare: { readonly simulated: number; readonly exact: number };
  readonly foundExpiredShare: { readonly simulated: number; readonly exact: number };
  readonly firstRefreshSeconds: { readonly simulated: number; readonly exact: number; readonly limit: number };
}

export function compareWithClosedForms({ random, isShort, print }: ExperimentContext): ClosedFormRow[] {
  const cycles = isShort ? 10_000 : 100_000;
  const rows = [0.5, 1, 2].flatMap((beta) =>
    [0.5, 3, 30, 1_000, 1_000_000].map((early): ClosedFormRow => {
      const deltaSeconds = 0.1;
      const ratePerSecond = early / (beta * deltaSeconds);
      // The closed forms know no network.
      const load = { ...DEFAULT_LOAD, beta, deltaSeconds, ratePerSecond, ttlSeconds: 3_600, roundTripSeconds: 0 };
      const hazard = refreshHazard(load, "cachefence");
      const uncoordinated = runKey(random, load, "xfetchOnly", cycles);
      const coordinated = runKey(random, { ...load, processes: 1 }, "cachefence", cycles);
      return {
        beta,
        deltaSeconds,
        ratePerSecond,
        early,
        recomputes: {
          simulated: uncoordinated.recomputes,
          exact: exactUncoordinatedRecomputes(hazard, deltaSeconds),
          limit: uncoordinatedRecomputes(beta),
        },
        unrefreshedShare: { simulated: coordinated.unrefreshedShare, exact: hardMissChance(hazard) },
        foundExpiredShare: {
          simulated: coordinated.hardMissShare,
          exact: exactFoundExpiredChance(hazard, deltaSeconds),
        },
        firstRefreshSeconds: {
          simulated: coordinated.refreshedEarlySeconds,
          exact: exactMeanFirstRefreshSeconds(hazard),
          limit: meanFirstRefreshSeconds(hazard),
        },
      };
    }),
  );
  print(
    textTable(rows, [
      { title: "beta", text: (row) => number(row.beta) },
      { title: "r*b*d", text: (row) => number(row.early) },
      { title: "recomputes sim", text: (row) => number(row.recomputes.simulated) },
      { title: "exact", text: (row) => number(row.recomputes.exact) },
      { title: "e^(1/b)", text: (row) => number(row.recomputes.limit) },
      { title: "no refresh sim", text: (row) => percent(row.unrefreshedShare.simulated) },
      { title: "e^-(r*b*d)", text: (row) => percent(row.unrefreshedShare.exact) },
      { title: "found expired sim", text: (row) => percent(row.foundExpiredShare.simulated) },
      { title: "exact", text: (row) => percent(row.foundExpiredShare.exact) },
      { title: "first refresh sim", text: (row) => seconds(row.firstRefreshSeconds.simulated) },
      { title: "exact", text: (row) => seconds(row.firstRefreshSeconds.exact) },
      { title: "limit", text: (row) => seconds(row.firstRefreshSeconds.limit) },
    ]),
  );
  return rows;
}
