import { libraries } from "../contenders/index.js";
import type { Contender } from "../contender.js";
import { machineMs } from "../harness/clock.js";
import { type CommandCounts, countCommands, totalOf } from "../harness/command-counter.js";
import { type Fleet, startFleets } from "../harness/fleet.js";
import { showProgress } from "../harness/progress.js";
import { interleave } from "../harness/rounds.js";
import { type Spread, mostAtOnce, quantile, spreadOf } from "../harness/statistics.js";
import { type Table, showNumber, showRounds, showSpread } from "../harness/table.js";
import type { StampedeOutput } from "../jobs/stampede.js";
import type { RunContext, Scenario } from "../scenario.js";

const TTL_SECONDS = 60;
const LEAD_MS = 15;

interface Shape {
  readonly processes: number;
  readonly callersPerProcess: number;
}

interface StampedeCase extends Shape {
  readonly name: string;
  readonly recomputeMs: number;
}

const shapes: readonly Shape[] = [
  { processes: 1, callersPerProcess: 500 },
  { processes: 4, callersPerProcess: 250 },
];

function casesOf(shape: Shape, short: boolean): StampedeCase[] {
  const { processes, callersPerProcess } = shape;
  const recomputesMs = short ? [50] : [50, 700];
  const crowd = `${processes} ${processes === 1 ? "process" : "processes"} x ${callersPerProcess} callers`;
  return recomputesMs.map((recomputeMs) => ({ ...shape, name: `${crowd}, ${recomputeMs} ms`, recomputeMs }));
}

interface Round {
  readonly recomputes: number;
  readonly atOnce: number;
  readonly failures: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly wakeUpP50Ms: number;
  readonly wakeUpP99Ms: number;
}

export interface StampedeRow {
  readonly contender: string;
  readonly recomputes: Spread;
  readonly atOnce: Spread;
  readonly failures: Spread;
  /** Sent in the first stampede of these processes, connections made for it included; null where they had one before. */
  readonly firstCommands: CommandCounts | null;
  /** Sent in a later one. */
  readonly commands: CommandCounts;
  readonly p50Ms: Spread;
  readonly p99Ms: Spread;
  readonly wakeUpP50Ms: Spread;
  readonly wakeUpP99Ms: Spread;
  /** Every caller of the last round, for the picture. */
  readonly latenciesMs: readonly number[];
}

export interface StampedeOutcome {
  readonly rounds: number;
  readonly cases: readonly {
    readonly name: string;
    readonly processes: number;
    readonly recomputeMs: number;
    readonly rows: readonly StampedeRow[];
  }[];
}

/** Many callers of one cold key at one moment, in one process and in several. */
export const stampede: Scenario<StampedeOutcome> = {
  name: "stampede",
  summary: "many callers of one cold key: recomputes, Redis commands, latency, wake-up",
  contenders: libraries,
  run,
  tables,
};

async function run(context: RunContext): Promise<StampedeOutcome> {
  const { url, short, contenders } = context;
  const rounds = context.rounds ?? (short ? 2 : 5);
  const outcomes: StampedeOutcome["cases"][number][] = [];
  for (const shape of shapes) {
    const cases = casesOf(shape, short).filter(({ name }) => context.includesCase(name));
    if (cases.length === 0) continue;
    showProgress(`starting ${shape.processes} for each contender`);
    const fleets = await startFleets(contenders, shape.processes, url);
    try {
      for (const [index, stampedeCase] of cases.entries()) {
        const rows = await runCase(stampedeCase, index === 0, contenders, fleets, rounds, url);
        const { name, processes, recomputeMs } = stampedeCase;
        outcomes.push({ name, processes, recomputeMs, rows });
      }
    } finally {
      await Promise.all([...fleets.values()].map((fleet) => fleet.stop()));
    }
  }
  return { rounds, cases: outcomes };
}

async function runCase(
  stampedeCase: StampedeCase,
  isFirst: boolean,
  contenders: readonly Contender[],
  fleets: ReadonlyMap<Contender, Fleet>,
  rounds: number,
  url: string,
): Promise<StampedeRow[]> {
  const counted = new Map<Contender, Pick<StampedeRow, "firstCommands" | "commands">>();
  const outputs = new Map<Contender, StampedeOutput[][]>(contenders.map((contender) => [contender, []]));
  for (const contender of contenders) {
    showProgress(`${stampedeCase.name}: counting the commands of ${contender.name}`);
    const count = async (): Promise<CommandCounts> =>
      (await countCommands(url, () => stampedeOnce(stampedeCase, fleets.get(contender)!))).sent;
    counted.set(contender, { firstCommands: isFirst ? await count() : null, commands: await count() });
  }
  await interleave(contenders, rounds, async (contender, round) => {
    showProgress(`${stampedeCase.name}: round ${round + 1} of ${rounds}, ${contender.name}`);
    outputs.get(contender)!.push(await stampedeOnce(stampedeCase, fleets.get(contender)!));
  });
  return contenders.map((contender) => rowOf(contender, counted.get(contender)!, outputs.get(contender)!));
}

let lastKey = 0;

/** A new key each time, so that it is cold. */
function stampedeOnce(stampedeCase: StampedeCase, fleet: Fleet): Promise<StampedeOutput[]> {
  return fleet.run("stampede", {
    key: `stampede:${++lastKey}`,
    callers: stampedeCase.callersPerProcess,
    recomputeMs: stampedeCase.recomputeMs,
    ttlSeconds: TTL_SECONDS,
    startAtMs: machineMs() + LEAD_MS,
  });
}

function rowOf(
  contender: Contender,
  counted: Pick<StampedeRow, "firstCommands" | "commands">,
  outputs: readonly (readonly StampedeOutput[])[],
): StampedeRow {
  const rounds = outputs.map(roundOf);
  const spread = (measure: keyof Round): Spread => spreadOf(rounds.map((round) => round[measure]));
  return {
    contender: contender.name,
    ...counted,
    recomputes: spread("recomputes"),
    atOnce: spread("atOnce"),
    failures: spread("failures"),
    p50Ms: spread("p50Ms"),
    p99Ms: spread("p99Ms"),
    wakeUpP50Ms: spread("wakeUpP50Ms"),
    wakeUpP99Ms: spread("wakeUpP99Ms"),
    latenciesMs: (outputs.at(-1) ?? []).flatMap((output) => output.latenciesMs),
  };
}

function roundOf(outputs: readonly StampedeOutput[]): Round {
  const recomputes = outputs.flatMap((output) => output.recomputes);
  const latenciesMs = outputs.flatMap((output) => output.latenciesMs);
  const firstRecomputedAtMs = Math.min(...recomputes.map(({ endedAtMs }) => endedAtMs));
  const wakeUpsMs = outputs.flatMap((output) => output.finishedAtMs).map((atMs) => atMs - firstRecomputedAtMs);
  return {
    recomputes: recomputes.length,
    atOnce: mostAtOnce(recomputes),
    failures: outputs.reduce((sum, output) => sum + output.failures, 0),
    p50Ms: quantile(latenciesMs, 0.5),
    p99Ms: quantile(latenciesMs, 0.99),
    wakeUpP50Ms: quantile(wakeUpsMs, 0.5),
    wakeUpP99Ms: quantile(wakeUpsMs, 0.99),
  };
}

function tables({ rounds, cases }: StampedeOutcome): Table[] {
  return cases.map(({ name, rows }) => ({
    title: `Stampede: ${name} (${showRounds(rounds)})`,
    columns: [
      "contender",
      "recomputes",
      "commands",
      "first time",
      "p50 ms",
      "p99 ms",
      "wake-up p50 ms",
      "wake-up p99 ms",
      "failed",
    ],
    rows: rows.map((row) => [
      row.contender,
      showSpread(row.recomputes),
      showNumber(totalOf(row.commands)),
      row.firstCommands ? showNumber(totalOf(row.firstCommands)) : "-",
      showSpread(row.p50Ms, 1),
      showSpread(row.p99Ms, 1),
      showSpread(row.wakeUpP50Ms, 1),
      showSpread(row.wakeUpP99Ms, 1),
      showSpread(row.failures),
    ]),
    notes: [
      "commands: sent by all processes together in one stampede, a script counted as one; first time: in the first of these",
      "processes, with what connections of its own cost. Wake-up: from the end of the first recompute, its store included,",
      "until a caller has its value.",
    ],
  }));
}
