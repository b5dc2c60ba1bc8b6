import { basicStrategies } from "../contenders/index.js";
import { machineMs } from "../harness/clock.js";
import { startFleets } from "../harness/fleet.js";
import { showProgress } from "../harness/progress.js";
import { type Table, showNumber } from "../harness/table.js";
import { mostWithin } from "../harness/statistics.js";
import type { RunContext, Scenario } from "../scenario.js";

const PROCESSES = 4;
const CALLERS_PER_PROCESS = 50;
const SHORTEST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 200;
const RECOMPUTE_MS = 100;
const BIN_MS = 100;
const EXPIRIES = 3;
const LEAD_MS = 100;

export interface SourceQueriesOutcome {
  readonly processes: number;
  readonly callersPerProcess: number;
  readonly ttlMs: number;
  readonly recomputeMs: number;
  readonly durationMs: number;
  readonly rows: readonly {
    readonly contender: string;
    /** When each query of the source began, from the first read on. */
    readonly queriesAtMs: readonly number[];
  }[];
}

/** What the source sees of one hot key: a cold start and three expiries. Made for the picture. */
export const sourceQueries: Scenario<SourceQueriesOutcome> = {
  name: "source-queries",
  summary: "queries of the source through a cold start and three expiries",
  contenders: basicStrategies,
  run,
  tables,
};

async function run({ url, short, contenders }: RunContext): Promise<SourceQueriesOutcome> {
  const ttlMs = short ? 2_000 : 4_000;
  const durationMs = EXPIRIES * (ttlMs + RECOMPUTE_MS) + ttlMs / 3;
  showProgress(`source queries: all contenders at once, ${(durationMs / 1000).toFixed(0)} s`);
  const fleets = await startFleets(contenders, PROCESSES, url);
  try {
    const startAtMs = machineMs() + LEAD_MS;
    const rows = await Promise.all(
      contenders.map(async (contender) => {
        const outputs = await fleets.get(contender)!.run("pausedReads", {
          key: `queries:${contender.name}`,
          workers: CALLERS_PER_PROCESS,
          separateCaches: false,
          shortestPauseMs: SHORTEST_PAUSE_MS,
          longestPauseMs: LONGEST_PAUSE_MS,
          recomputeMs: RECOMPUTE_MS,
          ttlSeconds: ttlMs / 1000,
          durationMs,
          startAtMs,
        });
        const recomputes = outputs.flat().flatMap((read) => (read.recompute ? [read.recompute] : []));
        const queriesAtMs = recomputes.map(({ startedAtMs }) => startedAtMs - startAtMs).sort((a, b) => a - b);
        return { contender: contender.name, queriesAtMs };
      }),
    );
    return {
      processes: PROCESSES,
      callersPerProcess: CALLERS_PER_PROCESS,
      ttlMs,
      recomputeMs: RECOMPUTE_MS,
      durationMs,
      rows,
    };
  } finally {
    await Promise.all([...fleets.values()].map((fleet) => fleet.stop()));
  }
}

function tables({ processes, callersPerProcess, ttlMs, recomputeMs, durationMs, rows }: SourceQueriesOutcome): Table[] {
  return [
    {
      title:
        `Source queries: ${processes} processes x ${callersPerProcess} callers, ttl ${ttlMs / 1000} s, ${recomputeMs} ms ` +
        `recompute, ${showNumber(durationMs / 1000, 1)} s with ${EXPIRIES} expiries`,
      columns: ["contender", "queries", `most in ${BIN_MS} ms`],
      rows: rows.map(({ contender, queriesAtMs }) => [
        contender,
        showNumber(queriesAtMs.length),
        showNumber(mostWithin(queriesAtMs, BIN_MS)),
      ]),
      notes: ["One key, read by every caller again and again after a pause of 20 to 200 ms."],
    },
  ];
}
