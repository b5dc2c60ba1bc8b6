import * as cost from "./cost-model.js";
import type { ExperimentContext } from "./experiment.js";
import { number, percent, textTable } from "./text-table.js";

export interface PrimaryCapacityRow {
  readonly primaryCommandsPerSecond: number;
  /** How often each key is rebuilt: `early` costs a holder, `cold` makes `waitingProcesses` wait. */
  readonly kind: "early" | "cold";
  readonly waitingProcesses: number;
  readonly rebuildsPerSecond: number;
  /** Of Redis' time, spent on rebuilds; above 1 there is no time for reads, and the rebuilds themselves fall behind. */
  readonly rebuildShare: number;
  /** What is left for hits when Redis is to be busy for 70% of its time. */
  readonly hitsPerSecond: number;
}

const BUSY_TARGET = 0.7;

/** What one primary carries: plain arithmetic on the cost model, no chance in it. */
export function tabulatePrimaryCapacity({ print }: ExperimentContext): PrimaryCapacityRow[] {
  const rows = [50_000, cost.PRIMARY_COMMANDS_PER_SECOND, 200_000].flatMap((primaryCommandsPerSecond) =>
    (["early", "cold"] as const).flatMap((kind) =>
      (kind === "early" ? [0] : [10, 100, 1_000, 10_000]).flatMap((waitingProcesses) =>
        (kind === "early" ? [100, 1_000, 5_000] : [1, 10, 100]).map((rebuildsPerSecond): PrimaryCapacityRow => {
          const speed = primaryCommandsPerSecond / cost.PRIMARY_COMMANDS_PER_SECOND;
          // An early refresh meets at most e - 1 lost claims on average at beta 1.
          const lostClaims = kind === "early" ? Math.E - 1 : 0;
          // In simple commands; the reads that a rebuild begins with are the load of the cache.
          const weight =
            cost.SCRIPT_WEIGHT +
            cost.STORE_SCRIPT_WEIGHT +
            lostClaims * cost.LOST_CLAIM_COMMANDS * cost.SCRIPT_WEIGHT +
            waitingProcesses * (cost.READ_COMMANDS + cost.CLAIM_COMMANDS * cost.SCRIPT_WEIGHT);
          const messageSeconds = (waitingProcesses * cost.WAITING_PROCESS_MESSAGES) / cost.PRIMARY_MESSAGES_PER_SECOND;
          const rebuildSeconds = (weight / cost.PRIMARY_COMMANDS_PER_SECOND + messageSeconds) / speed;
          const rebuildShare = rebuildSeconds * rebuildsPerSecond;
          const hitsPerSecond = Math.max(BUSY_TARGET - rebuildShare, 0) * primaryCommandsPerSecond;
          return { primaryCommandsPerSecond, kind, waitingProcesses, rebuildsPerSecond, rebuildShare, hitsPerSecond };
        }),
      ),
    ),
  );
  print(
    textTable(
      rows.filter((row) => row.primaryCommandsPerSecond === cost.PRIMARY_COMMANDS_PER_SECOND),
      [
        { title: "commands/s assumed", text: (row) => number(row.primaryCommandsPerSecond) },
        { title: "rebuild", text: (row) => row.kind },
        { title: "processes waiting", text: (row) => number(row.waitingProcesses) },
        { title: "rebuilds/s", text: (row) => number(row.rebuildsPerSecond) },
        { title: "Redis' time on them", text: (row) => percent(row.rebuildShare) },
        { title: "hits/s beside them", text: (row) => number(row.hitsPerSecond) },
      ],
    ),
  );
  return rows;
}
