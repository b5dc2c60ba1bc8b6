import { libraries } from "../contenders/index.js";
import type { Contender } from "../contender.js";
import { machineMs } from "../harness/clock.js";
import { type Fleet, startFleets } from "../harness/fleet.js";
import { showProgress } from "../harness/progress.js";
import { interleave } from "../harness/rounds.js";
import { type Spread, mostAtOnce, quantile, spreadOf } from "../harness/statistics.js";
import { type Table, showRounds, showSpread } from "../harness/table.js";
import type { RunContext, Scenario } from "../scenario.js";

const TTL_SECONDS = 60;
const RECOMPUTE_MS = 50;
const RETRY_AFTER_MS = 100;
const PROCESSES = 4;
const CALLERS_PER_PROCESS = 100;
const LEAD_MS = 15;
const GIVE_UP_AFTER_MS = 10_000;

interface Round {
  readonly recomputes: number;
  readonly atOnce: number;
  readonly errors: number;
  readonly p50Ms: number;
  readonly lastMs: number;
  readonly withoutValue: number;
}

export interface FailingSourceOutcome {
  readonly rounds: number;
  readonly outageMs: number;
  readonly recomputeMs: number;
  readonly retryAfterMs: number;
  readonly processes: number;
  readonly callersPerProcess: number;
  readonly rows: readonly ({ readonly contender: string } & { readonly [Measure in keyof Round]: Spread })[];
}

/** A cold key whose source is down for a while, and callers that do not give up. */
export const failingSource: Scenario<FailingSourceOutcome> = {
  name: "failing-source",
  summary: "the source is down: how hard it is hit, time to a value once it is back",
  contenders: libraries,
  run,
  tables,
};

async function run({ url, short, contenders, ...context }: RunContext): Promise<FailingSourceOutcome> {
  const rounds = context.rounds ?? (short ? 1 : 3);
  const outageMs = short ? 500 : 1_000;
  showProgress("starting the processes of each contender");
  const fleets = await startFleets(contenders, PROCESSES, url);
  const measured = new Map<Contender, Round[]>(contenders.map((contender) => [contender, []]));
  try {
    await interleave(contenders, rounds, async (contender, round) => {
      showProgress(`failing source: round ${round + 1} of ${rounds}, ${contender.name}`);
      const key = `failing:${contender.name.replaceAll(" ", "")}:${round}`;
      measured.get(contender)!.push(await passThroughOutage(key, outageMs, fleets.get(contender)!));
    });
  } finally {
    await Promise.all([...fleets.values()].map((fleet) => fleet.stop()));
  }
  return {
    rounds,
    outageMs,
    recomputeMs: RECOMPUTE_MS,
    retryAfterMs: RETRY_AFTER_MS,
    processes: PROCESSES,
    callersPerProcess: CALLERS_PER_PROCESS,
    rows: contenders.map((contender) => rowOf(contender, measured.get(contender)!)),
  };
}

async function passThroughOutage(key: string, outageMs: number, fleet: Fleet): Promise<Round> {
  const startAtMs = machineMs() + LEAD_MS;
  const backAtMs = startAtMs + outageMs;
  const outputs = await fleet.run("outage", {
    key,
    callers: CALLERS_PER_PROCESS,
    recomputeMs: RECOMPUTE_MS,
    retryAfterMs: RETRY_AFTER_MS,
    ttlSeconds: TTL_SECONDS,
    startAtMs,
    backAtMs,
    giveUpAtMs: backAtMs + GIVE_UP_AFTER_MS,
  });
  const recomputes = outputs.flatMap((output) => output.recomputes);
  const valuesMs = outputs.flatMap((output) => output.finishedAtMs).map((atMs) => atMs - backAtMs);
  return {
    recomputes: recomputes.length,
    atOnce: mostAtOnce(recomputes),
    errors: outputs.reduce((sum, { errors }) => sum + errors, 0),
    p50Ms: quantile(valuesMs, 0.5),
    lastMs: quantile(valuesMs, 1),
    withoutValue: PROCESSES * CALLERS_PER_PROCESS - valuesMs.length,
  };
}

function rowOf(contender: Contender, rounds: readonly Round[]): FailingSourceOutcome["rows"][number] {
  const spread = (measure: keyof Round): Spread => spreadOf(rounds.map((round) => round[measure]));
  return {
    contender: contender.name,
    recomputes: spread("recomputes"),
    atOnce: spread("atOnce"),
    errors: spread("errors"),
    p50Ms: spread("p50Ms"),
    lastMs: spread("lastMs"),
    withoutValue: spread("withoutValue"),
  };
}

function tables(outcome: FailingSourceOutcome): Table[] {
  const { rounds, outageMs, recomputeMs, retryAfterMs, processes, callersPerProcess, rows } = outcome;
  return [
    {
      title:
        `Failing source: down for ${outageMs} ms, ${processes} processes x ${callersPerProcess} callers ` +
        `(${showRounds(rounds)})`,
      columns: ["contender", "source calls", "at once", "errors", "value p50 ms", "last value ms", "without value"],
      rows: rows.map((row) => [
        row.contender,
        showSpread(row.recomputes),
        showSpread(row.atOnce),
        showSpread(row.errors),
        showSpread(row.p50Ms),
        showSpread(row.lastMs),
        showSpread(row.withoutValue),
      ]),
      notes: [
        `A source call takes ${recomputeMs} ms, also when it fails. A caller that gets an error calls again after ${retryAfterMs} ms.`,
        "Values: from the moment at which the source answers again.",
      ],
    },
  ];
}
