import type { ClosedFormRow } from "./experiment-closed-forms.js";
import type { CopiesRow, CopyReadsRow, FenceCapacityRow } from "./experiment-copies.js";
import type { FleetBurstRow } from "./experiment-fleet-burst.js";
import type { FleetGrowthRow } from "./experiment-fleet-growth.js";
import type { LoadGridRow } from "./experiment-load-grid.js";
import type { MeasuredRow } from "./experiment-measured.js";
import type { PrimaryCapacityRow } from "./experiment-primary-capacity.js";
import type { ShortTtlRow } from "./experiment-short-ttl.js";
import type { SlowRecomputeRow } from "./experiment-slow-recompute.js";
import type { StaleServesRow } from "./experiment-stale-serves.js";
import type { ZipfRow } from "./experiment-zipf.js";

/**
 * What `bench/results/simulate.json` holds, or `bench/results/short/simulate.json` after a short run. Each part is an
 * array of flat rows: the configuration first, then what came of it. Names end in their unit; counts without "PerSecond"
 * are per cycle, a cycle being the time from one store of an entry to the next; a `Share` is between 0 and 1.
 *
 * For the pictures:
 * - recomputes against fleet size: `fleetGrowth`, x `processes`, y `byPolicy[policy].recomputes`, both logarithmic;
 * - commands and wake-ups against fleet size: `fleetGrowth`, `byPolicy.cachefence` for the early refresh and
 *   `byPolicy.lockOnly` for the cold rebuild, `.commands` and `.messages`;
 * - who waits: `loadGrid`, x `load.ratePerSecond`, y `summary.hardMissShare` or `summary.waitP99Seconds`, per `policy`;
 * - wake-up delay against fleet size: `fleetBursts`, x `settings.processes`, y `burst.wakeUpP99Seconds`, per `settings.wakeUp`;
 * - theory against simulation: `closedForms`, x `early`, y `.simulated` and `.exact` of each quantity.
 */
export interface SimulationResults {
  /** Changes when a field changes its meaning. */
  readonly format: 2;
  readonly seed: number;
  readonly isShort: boolean;
  readonly tookSeconds: number;
  /** The constants of cost-model.ts that the run used. */
  readonly costModel: Readonly<Record<string, unknown>>;
  readonly closedForms: readonly ClosedFormRow[];
  readonly loadGrid: readonly LoadGridRow[];
  readonly fleetGrowth: readonly FleetGrowthRow[];
  readonly fleetBursts: readonly FleetBurstRow[];
  readonly slowRecomputes: readonly SlowRecomputeRow[];
  readonly shortTtls: readonly ShortTtlRow[];
  readonly staleServes: readonly StaleServesRow[];
  readonly zipf: readonly ZipfRow[];
  readonly primaryCapacity: readonly PrimaryCapacityRow[];
  readonly measured: readonly MeasuredRow[];
  readonly copies: readonly CopiesRow[];
  readonly fences: readonly FenceCapacityRow[];
  readonly copyReads: readonly CopyReadsRow[];
}
