import { setTimeout as sleep } from "node:timers/promises";
import { libraries } from "../contenders/index.js";
import type { Contender } from "../contender.js";
import { machineMs } from "../harness/clock.js";
import { Fleet, startFleets } from "../harness/fleet.js";
import { showProgress } from "../harness/progress.js";
import { type Spread, mostAtOnce, quantile, spreadOf } from "../harness/statistics.js";
import { type Table, showRounds, showSpread } from "../harness/table.js";
import type { RunContext, Scenario } from "../scenario.js";

const TTL_SECONDS = 60;
const RECOMPUTE_MS = 500;
const WAITING_PROCESSES = 3;
const CALLERS_PER_PROCESS = 50;
const LEAD_MS = 20;
// After the waiters have called: the holder is still recomputing, and they have begun to wait for it.
const KILLED_AFTER_MS = 150;

interface Round {
  readonly recomputes: number;
  readonly atOnce: number;
  readonly firstValueMs: number;
  readonly lastValueMs: number;
  readonly failures: number;
}

export interface CrashOutcome {
  readonly rounds: number;
  readonly waitingProcesses: number;
  readonly callersPerProcess: number;
  readonly recomputeMs: number;
  readonly rows: readonly ({ readonly contender: string } & { readonly [Measure in keyof Round]: Spread })[];
}

/** The process that rebuilds a key is killed in the middle of it, while three others wait. */
export const crash: Scenario<CrashOutcome> = {
  name: "crash",
  summary: "the rebuilding process is killed: recomputes by the others, time to a value",
  contenders: libraries,
  run,
  tables,
};

async function run({ url, short, contenders, ...context }: RunContext): Promise<CrashOutcome> {
  const rounds = context.rounds ?? (short ? 1 : 3);
  showProgress("starting the waiting processes");
  const fleets = await startFleets(contenders, WAITING_PROCESSES, url);
  const measured = new Map<Contender, Round[]>(contenders.map((contender) => [contender, []]));
  try {
    for (let round = 0; round < rounds; round++) {
      showProgress(`crash: round ${round + 1} of ${rounds}, all contenders at once`);
      const holders = await startFleets(contenders, 1, url);
      // At once, because it is nearly all waiting: for the lease of a lock, up to ten seconds.
      await Promise.all(
        contenders.map(async (contender) => {
          const key = `crash:${contender.name.replaceAll(" ", "")}:${round}`;
          measured.get(contender)!.push(await killHolder(key, holders.get(contender)!, fleets.get(contender)!));
        }),
      );
    }
  } finally {
    await Promise.all([...fleets.values()].map((fleet) => fleet.stop()));
  }
  return {
    rounds,
    waitingProcesses: WAITING_PROCESSES,
    callersPerProcess: CALLERS_PER_PROCESS,
    recomputeMs: RECOMPUTE_MS,
    rows: contenders.map((contender) => rowOf(contender, measured.get(contender)!)),
  };
}

async function killHolder(key: string, holder: Fleet, waiters: Fleet): Promise<Round> {
  await holder.run("beginRebuild", { key, recomputeMs: RECOMPUTE_MS, ttlSeconds: TTL_SECONDS });
  const startAtMs = machineMs() + LEAD_MS;
  const waiting = waiters.run("stampede", {
    key,
    callers: CALLERS_PER_PROCESS,
    recomputeMs: RECOMPUTE_MS,
    ttlSeconds: TTL_SECONDS,
    startAtMs,
  });
  await sleep(LEAD_MS + KILLED_AFTER_MS);
  const killedAtMs = machineMs();
  await holder.kill();
  const outputs = await waiting;
  const recomputes = outputs.flatMap((output) => output.recomputes);
  const valuesMs = outputs.flatMap((output) => output.finishedAtMs).map((atMs) => atMs - killedAtMs);
  return {
    recomputes: recomputes.length,
    atOnce: mostAtOnce(recomputes),
    firstValueMs: quantile(valuesMs, 0),
    lastValueMs: quantile(valuesMs, 1),
    failures: outputs.reduce((sum, { failures }) => sum + failures, 0),
  };
}

function rowOf(contender: Contender, rounds: readonly Round[]): CrashOutcome["rows"][number] {
  const spread = (measure: keyof Round): Spread => spreadOf(rounds.map((round) => round[measure]));
  return {
    contender: contender.name,
    recomputes: spread("recomputes"),
    atOnce: spread("atOnce"),
    firstValueMs: spread("firstValueMs"),
    lastValueMs: spread("lastValueMs"),
    failures: spread("failures"),
  };
}

function tables({ rounds, waitingProcesses, callersPerProcess, recomputeMs, rows }: CrashOutcome): Table[] {
  return [
    {
      title:
        `Crash: holder killed during a ${recomputeMs} ms recompute, ${waitingProcesses} processes x ` +
        `${callersPerProcess} callers behind it (${showRounds(rounds)})`,
      columns: ["contender", "recomputes", "at once", "first value ms", "last value ms", "failed"],
      rows: rows.map((row) => [
        row.contender,
        showSpread(row.recomputes),
        showSpread(row.atOnce),
        showSpread(row.firstValueMs),
        showSpread(row.lastValueMs),
        showSpread(row.failures),
      ]),
      notes: [
        "recomputes: by the surviving processes. Values: from the kill on. Without a lock nobody notices the crash, for every",
        "process recomputes anyway; with one, the others wait until its lease ends or their patience does.",
      ],
    },
  ];
}
