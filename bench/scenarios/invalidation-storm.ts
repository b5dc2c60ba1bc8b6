import { libraries } from "../contenders/index.js";
import type { Contender } from "../contender.js";
import { machineMs } from "../harness/clock.js";
import { type Fleet, startFleets } from "../harness/fleet.js";
import { showProgress } from "../harness/progress.js";
import { interleave } from "../harness/rounds.js";
import { type Spread, mostAtOnce, mostWithin, quantile, spreadOf } from "../harness/statistics.js";
import { type Table, showRounds, showSpread } from "../harness/table.js";
import type { StormOutput } from "../jobs/storm.js";
import type { RunContext, Scenario } from "../scenario.js";
import { findOutdatedReads } from "./outdated-reads.js";

const TTL_SECONDS = 60;
const PROCESSES = 4;
const READERS_PER_PROCESS = 25;
const READ_PAUSE_MS = 1;
const RECOMPUTE_MS = 20;
const INVALIDATES_PER_SECOND = 20;
// Each process reads the key once before it starts.
const LEAD_MS = 150;

interface Round {
  readonly peakSourceCallsPerSecond: number;
  readonly sourceCallsPerInvalidate: number;
  readonly atOnce: number;
  readonly readsPerSecond: number;
  readonly readP99Ms: number;
  readonly invalidateP99Ms: number;
  readonly outdatedReads: number;
  readonly failures: number;
}

export interface InvalidationStormOutcome {
  readonly rounds: number;
  readonly durationMs: number;
  readonly processes: number;
  readonly readersPerProcess: number;
  readonly recomputeMs: number;
  readonly invalidatesPerSecond: number;
  readonly rows: readonly ({ readonly contender: string } & { readonly [Measure in keyof Round]: Spread })[];
}

/** One key that is read all the time and deleted often, the case that Facebook's memcache leases were made for. */
export const invalidationStorm: Scenario<InvalidationStormOutcome> = {
  name: "invalidation-storm",
  summary: "a key that is read and deleted all the time: source calls, values older than an invalidate",
  contenders: libraries,
  run,
  tables,
};

async function run({ url, short, contenders, ...context }: RunContext): Promise<InvalidationStormOutcome> {
  const rounds = context.rounds ?? (short ? 1 : 3);
  const durationMs = short ? 1_000 : 2_000;
  // The same for all contenders of a round.
  const momentsMs = Array.from({ length: rounds }, () => drawMoments(durationMs));
  showProgress("starting the processes of each contender");
  const fleets = await startFleets(contenders, PROCESSES, url);
  const measured = new Map<Contender, Round[]>(contenders.map((contender) => [contender, []]));
  try {
    await interleave(contenders, rounds, async (contender, round) => {
      showProgress(`invalidation storm: round ${round + 1} of ${rounds}, ${contender.name}`);
      const key = `storm:${contender.name.replaceAll(" ", "")}:${round}`;
      const outputs = await stormOnce(key, momentsMs[round]!, durationMs, fleets.get(contender)!);
      measured.get(contender)!.push(roundOf(outputs, durationMs));
    });
  } finally {
    await Promise.all([...fleets.values()].map((fleet) => fleet.stop()));
  }
  return {
    rounds,
    durationMs,
    processes: PROCESSES,
    readersPerProcess: READERS_PER_PROCESS,
    recomputeMs: RECOMPUTE_MS,
    invalidatesPerSecond: INVALIDATES_PER_SECOND,
    rows: contenders.map((contender) => rowOf(contender, measured.get(contender)!)),
  };
}

function stormOnce(
  key: string,
  momentsMs: readonly number[],
  durationMs: number,
  fleet: Fleet,
): Promise<StormOutput[]> {
  const startAtMs = machineMs() + LEAD_MS;
  return fleet.runEach("storm", (process) => ({
    key,
    readers: READERS_PER_PROCESS,
    pauseMs: READ_PAUSE_MS,
    recomputeMs: RECOMPUTE_MS,
    ttlSeconds: TTL_SECONDS,
    invalidateAfterMs: momentsMs.filter((_, i) => i % PROCESSES === process),
    startAtMs,
    endAtMs: startAtMs + durationMs,
  }));
}

/** Random moments, so that an invalidate meets a rebuild at any point of it. */
function drawMoments(durationMs: number): number[] {
  const count = Math.round((durationMs / 1000) * INVALIDATES_PER_SECOND);
  return Array.from({ length: count }, () => Math.random() * durationMs).sort((a, b) => a - b);
}

function roundOf(outputs: readonly StormOutput[], durationMs: number): Round {
  const recomputes = outputs.flatMap((output) => output.recomputes);
  const invalidates = outputs.flatMap((output) => output.invalidates);
  const reads = outputs.reduce((sum, { readBeganAtMs }) => sum + readBeganAtMs.length, 0);
  return {
    peakSourceCallsPerSecond: mostWithin(
      recomputes.map(({ startedAtMs }) => startedAtMs),
      1000,
    ),
    sourceCallsPerInvalidate: recomputes.length / invalidates.length,
    atOnce: mostAtOnce(recomputes),
    readsPerSecond: (reads / durationMs) * 1000,
    // Of the process whose callers fared worst.
    readP99Ms: Math.max(...outputs.map(({ readP99Ms }) => readP99Ms)),
    invalidateP99Ms: quantile(
      invalidates.map(({ startedAtMs, endedAtMs }) => endedAtMs - startedAtMs),
      0.99,
    ),
    outdatedReads: findOutdatedReads(outputs, invalidates).count,
    failures: outputs.reduce((sum, { failures }) => sum + failures, 0),
  };
}

function rowOf(contender: Contender, rounds: readonly Round[]): InvalidationStormOutcome["rows"][number] {
  const spread = (measure: keyof Round): Spread => spreadOf(rounds.map((round) => round[measure]));
  return {
    contender: contender.name,
    peakSourceCallsPerSecond: spread("peakSourceCallsPerSecond"),
    sourceCallsPerInvalidate: spread("sourceCallsPerInvalidate"),
    atOnce: spread("atOnce"),
    readsPerSecond: spread("readsPerSecond"),
    readP99Ms: spread("readP99Ms"),
    invalidateP99Ms: spread("invalidateP99Ms"),
    outdatedReads: spread("outdatedReads"),
    failures: spread("failures"),
  };
}

function tables(outcome: InvalidationStormOutcome): Table[] {
  const { rounds, durationMs, processes, readersPerProcess, recomputeMs, invalidatesPerSecond, rows } = outcome;
  return [
    {
      title:
        `Invalidation storm: ${invalidatesPerSecond} invalidates/s, ${recomputeMs} ms recompute, ${processes} processes x ` +
        `${readersPerProcess} readers (${showRounds(rounds, ` of ${durationMs / 1000} s`)})`,
      columns: [
        "contender",
        "peak source calls/s",
        "per invalidate",
        "at once",
        "outdated reads",
        "reads/s",
        "read p99 ms",
        "invalidate p99 ms",
        "failed",
      ],
      rows: rows.map((row) => [
        row.contender,
        showSpread(row.peakSourceCallsPerSecond),
        showSpread(row.sourceCallsPerInvalidate, 1),
        showSpread(row.atOnce),
        showSpread(row.outdatedReads),
        showSpread(row.readsPerSecond),
        showSpread(row.readP99Ms, 1),
        showSpread(row.invalidateP99Ms, 1),
        showSpread(row.failures),
      ]),
      notes: [
        "outdated reads: began after an invalidate had resolved, in whichever process, and got a value whose recompute had",
        "begun before that invalidate was called. Peak: the busiest second. At once: with a fence, the rebuild that an",
        "invalidate has overtaken still ends while the next one runs. Who serves outdated values serves more reads.",
      ],
    },
  ];
}
