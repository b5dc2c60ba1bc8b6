import { ROUND_TRIP_SECONDS } from "./cost-model.js";
import type { ExperimentContext } from "./experiment.js";
import { type Burst, type BurstSettings, playBurst } from "./fleet-burst.js";
import { number, seconds, textTable } from "./text-table.js";

export interface FleetBurstRow {
  readonly settings: BurstSettings;
  readonly burst: Burst;
}

/** A cold key that every process asks for within 20 ms, through one primary of the assumed speed. */
export function playFleetBursts({ random, print }: ExperimentContext): FleetBurstRow[] {
  const rows: FleetBurstRow[] = [];
  for (const wakeUp of ["push", "poll"] as const) {
    for (const deltaSeconds of [0.05, 0.7, 5]) {
      for (const processes of [1, 10, 100, 500, 1_000, 2_000, 5_000, 10_000]) {
        const settings = { processes, deltaSeconds, wakeUp, spreadSeconds: 0.02, roundTripSeconds: ROUND_TRIP_SECONDS };
        rows.push({ settings, burst: playBurst(random, settings) });
      }
    }
  }
  for (const wakeUp of ["push", "poll"] as const) {
    print(
      wakeUp === "push"
        ? "\nWaiters woken by push:\n"
        : "\nWaiters that only look (pub/sub denied, a holder in Python):\n",
    );
    print(
      textTable(
        rows.filter(({ settings }) => settings.wakeUp === wakeUp),
        [
          { title: "recompute", text: ({ settings }) => seconds(settings.deltaSeconds) },
          { title: "processes", text: ({ settings }) => number(settings.processes) },
          { title: "commands", text: ({ burst }) => number(burst.commands) },
          { title: "wake-ups", text: ({ burst }) => number(burst.messages) },
          { title: "Redis busy", text: ({ burst }) => seconds(burst.redisBusySeconds) },
          { title: "store queued", text: ({ burst }) => seconds(burst.storeSeconds) },
          { title: "wake-up p50", text: ({ burst }) => seconds(burst.wakeUpP50Seconds) },
          { title: "p99", text: ({ burst }) => seconds(burst.wakeUpP99Seconds) },
          { title: "last value after", text: ({ burst }) => seconds(burst.lastValueSeconds) },
        ],
      ),
    );
  }
  return rows;
}
