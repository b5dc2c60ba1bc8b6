import { steadyStrategies } from "../contenders/index.js";
import { machineMs } from "../harness/clock.js";
import { startFleets } from "../harness/fleet.js";
import { showProgress } from "../harness/progress.js";
import { type Table, showNumber } from "../harness/table.js";
import type { RunContext, Scenario } from "../scenario.js";
import { publishedRows } from "./published-steady-load.js";
import { type ReadTally, tallyReads } from "./read-tally.js";

const WORKERS = 50;
const TTL_MS = 20_000;
const RECOMPUTE_MS = 500;
const SHORTEST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 1_000;
const DURATION_MS = 280_000;
// The short form divides every time by this, and so asks that many times as often.
const SHORT_DIVISOR = 14;
// Fifty workers connect before the first of them reads.
const LEAD_MS = 1_500;

export interface SteadyLoadOutcome {
  /** 1, or what all times were divided by. */
  readonly divisor: number;
  readonly rows: readonly ({ readonly contender: string } & ReadTally)[];
}

/**
 * Random reads of one key over many expiries, as in the Internet Archive's harness (github.com/internetarchive/xfetch),
 * where each read is made by a process of its own: here each worker has a connection and a cache of its own, so that no
 * two share anything but Redis.
 */
export const steadyLoad: Scenario<SteadyLoadOutcome> = {
  name: "steady-load",
  summary: "50 workers over many expiries, as in the Internet Archive's harness",
  contenders: steadyStrategies,
  run,
  tables,
};

async function run({ url, short, contenders }: RunContext): Promise<SteadyLoadOutcome> {
  const divisor = short ? SHORT_DIVISOR : 1;
  const ttlMs = TTL_MS / divisor;
  const durationMs = DURATION_MS / divisor;
  showProgress(`steady load: all contenders at once, ${((durationMs + LEAD_MS) / 1000).toFixed(0)} s`);
  const fleets = await startFleets(contenders, 1, url);
  try {
    const startAtMs = machineMs() + LEAD_MS;
    const rows = await Promise.all(
      contenders.map(async (contender) => {
        const reads = await fleets.get(contender)!.runIn(0, "pausedReads", {
          key: `steady:${contender.name.replaceAll(" ", "")}`,
          workers: WORKERS,
          separateCaches: true,
          shortestPauseMs: SHORTEST_PAUSE_MS / divisor,
          longestPauseMs: LONGEST_PAUSE_MS / divisor,
          recomputeMs: RECOMPUTE_MS / divisor,
          ttlSeconds: ttlMs / 1000,
          durationMs,
          startAtMs,
        });
        return { contender: contender.name, ...tallyReads(reads, ttlMs) };
      }),
    );
    return { divisor, rows };
  } finally {
    await Promise.all([...fleets.values()].map((fleet) => fleet.stop()));
  }
}

function tables({ divisor, rows }: SteadyLoadOutcome): Table[] {
  const seconds = (ms: number): string => `${showNumber(ms / divisor / 1000, divisor === 1 ? 0 : 1)} s`;
  return [
    {
      title:
        `Steady load: ${WORKERS} workers, ttl ${seconds(TTL_MS)}, recompute ${showNumber(RECOMPUTE_MS / divisor)} ms, beta 1, ` +
        `${seconds(DURATION_MS)}${divisor === 1 ? "" : ` (all times divided by ${divisor})`}`,
      columns: ["contender", "reads", "hard misses", "recomputes", "simultaneous", "waited", "p99 ms", "longest ms"],
      rows: rows.map((row) => [
        row.contender,
        showNumber(row.reads),
        showNumber(row.hardMisses),
        showNumber(row.recomputes),
        showNumber(row.simultaneous),
        showNumber(row.waited),
        showNumber(row.p99Ms, 1),
        showNumber(row.longestReadMs),
      ]),
      notes: [
        "hard misses: reads that found no valid value; waited: those of them that another's recompute served; simultaneous:",
        "recomputes that began while another one ran. Each worker's first read is not counted, as in the original.",
      ],
    },
    {
      title: "Steady load: the Internet Archive's published runs of its own harness, in PHP",
      columns: ["strategy", "seconds", "reads", "hard misses", "recomputes", "simultaneous"],
      rows: publishedRows.map((row) => [
        row.strategy,
        showNumber(row.seconds),
        showNumber(row.reads),
        showNumber(row.hardMisses),
        showNumber(row.recomputes),
        showNumber(row.simultaneous),
      ]),
      notes: ["fetch is naive, locked is lock only, xfetch is XFetch only, xlocked is both, as in cachefence."],
    },
  ];
}
