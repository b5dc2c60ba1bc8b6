import { basicStrategies } from "../contenders/index.js";
import { cachefence } from "../contenders/cachefence.js";
import type { Contender } from "../contender.js";
import { machineMs } from "../harness/clock.js";
import { type CommandCounts, countCommands, totalOf } from "../harness/command-counter.js";
import { Fleet } from "../harness/fleet.js";
import { showProgress } from "../harness/progress.js";
import { type Spread, spreadOf } from "../harness/statistics.js";
import { type Table, showNumber, showRounds, showSpread } from "../harness/table.js";
import type { RunContext, Scenario } from "../scenario.js";
import {
  HOLDER_COMMANDS,
  LOOK_COMMANDS,
  LOOK_SECONDS,
  WAITING_PROCESS_COMMANDS,
  WAITING_PROCESS_MESSAGES,
} from "../simulate/cost-model.js";

// As in the simulation of a growing fleet: a process asks 20 times a second, which is 15 times while it recomputes.
const RECOMPUTE_MS = 700;
const CALLERS_PER_PROCESS = 15;
const TTL_SECONDS = 60;
const LOOKS = Math.floor(RECOMPUTE_MS / 1000 / LOOK_SECONDS);
// So many processes take a while to be told.
const LEAD_MS_PER_PROCESS = 2;
const LEAD_MS = 20;

export interface FleetGrowthMeasurement {
  readonly processes: number;
  readonly recomputes: Spread;
  readonly commands: Spread;
  /** Wake-up messages that the server pushed. */
  readonly messages: Spread;
  /** By name, in the last round. */
  readonly sent: CommandCounts;
}

export interface FleetGrowthOutcome {
  readonly rounds: number;
  readonly callersPerProcess: number;
  readonly recomputeMs: number;
  readonly rows: readonly { readonly contender: string; readonly sizes: readonly FleetGrowthMeasurement[] }[];
  /** What bench/simulate/cost-model.ts says of cachefence. */
  readonly model: readonly { readonly processes: number; readonly commands: number; readonly messages: number }[];
}

/** What one cold rebuild costs as the fleet grows. Counts, no times: so many processes share few cores. */
export const fleetGrowth: Scenario<FleetGrowthOutcome> = {
  name: "fleet-growth",
  summary: "one cold rebuild in 1 to 64 processes: recomputes, commands, wake-up messages",
  contenders: basicStrategies,
  run,
  tables,
};

async function run({ url, short, contenders, ...context }: RunContext): Promise<FleetGrowthOutcome> {
  const rounds = context.rounds ?? 1;
  const sizes = short ? [1, 4, 8] : [1, 2, 4, 8, 16, 32, 64];
  const rows: { contender: string; sizes: FleetGrowthMeasurement[] }[] = [];
  for (const contender of contenders) {
    showProgress(`fleet growth: starting ${Math.max(...sizes)} processes with ${contender.name}`);
    const fleet = await Fleet.start(contender, Math.max(...sizes), url);
    try {
      // The first wait of a process makes its connections, which are no cost of a rebuild.
      await rebuildIn(fleet, Math.max(...sizes), `growth:${contender.name}:first`);
      rows.push({ contender: contender.name, sizes: await measureSizes(contender, fleet, sizes, rounds, url) });
    } finally {
      await fleet.stop();
    }
  }
  const model = sizes.map((processes) => ({
    processes,
    commands: HOLDER_COMMANDS + (processes - 1) * (WAITING_PROCESS_COMMANDS + LOOKS * LOOK_COMMANDS),
    messages: (processes - 1) * WAITING_PROCESS_MESSAGES,
  }));
  return { rounds, callersPerProcess: CALLERS_PER_PROCESS, recomputeMs: RECOMPUTE_MS, rows, model };
}

async function measureSizes(
  contender: Contender,
  fleet: Fleet,
  sizes: readonly number[],
  rounds: number,
  url: string,
): Promise<FleetGrowthMeasurement[]> {
  const measurements: FleetGrowthMeasurement[] = [];
  for (const processes of sizes) {
    const counts: { recomputes: number; sent: CommandCounts; messages: number }[] = [];
    for (let round = 0; round < rounds; round++) {
      showProgress(`fleet growth: ${contender.name}, ${processes} processes, round ${round + 1} of ${rounds}`);
      const key = `growth:${contender.name}:${processes}:${round}`;
      const { result, sent, pushed } = await countCommands(url, () => rebuildIn(fleet, processes, key));
      counts.push({ recomputes: result, sent, messages: pushed });
    }
    measurements.push({
      processes,
      recomputes: spreadOf(counts.map(({ recomputes }) => recomputes)),
      commands: spreadOf(counts.map(({ sent }) => totalOf(sent))),
      messages: spreadOf(counts.map(({ messages }) => messages)),
      sent: counts.at(-1)?.sent ?? {},
    });
  }
  return measurements;
}

/** How often a cold key is recomputed when so many processes ask for it at once. */
async function rebuildIn(fleet: Fleet, processes: number, key: string): Promise<number> {
  const input = {
    key,
    callers: CALLERS_PER_PROCESS,
    recomputeMs: RECOMPUTE_MS,
    ttlSeconds: TTL_SECONDS,
    startAtMs: machineMs() + LEAD_MS + LEAD_MS_PER_PROCESS * processes,
  };
  const outputs = await fleet.run("stampede", input, processes);
  return outputs.reduce((sum, { recomputes }) => sum + recomputes.length, 0);
}

function tables({ rounds, callersPerProcess, recomputeMs, rows, model }: FleetGrowthOutcome): Table[] {
  const others = rows.filter(({ contender }) => contender !== cachefence.name);
  const own = rows.find(({ contender }) => contender === cachefence.name);
  const at = (index: number): string[] => {
    const measured = own?.sizes[index];
    if (!measured) return ["-", "-", "-"];
    return [showSpread(measured.recomputes), showSpread(measured.commands), showSpread(measured.messages)];
  };
  return [
    {
      title:
        `Fleet growth: one cold rebuild of ${recomputeMs} ms, ${callersPerProcess} callers in each process ` +
        `(${showRounds(rounds)})`,
      columns: [
        "processes",
        ...others.map(({ contender }) => `${contender}: recomputes`),
        "cachefence: recomputes",
        "commands",
        "messages",
        "model: commands",
        "messages",
      ],
      rows: model.map((predicted, index) => [
        showNumber(predicted.processes),
        ...others.map(({ sizes }) => showSpread(sizes[index]!.recomputes)),
        ...at(index),
        showNumber(predicted.commands),
        showNumber(predicted.messages),
      ]),
      notes: [
        "commands: sent by the whole fleet for one rebuild, a script counted as one; messages: wake-ups pushed by the server.",
        `model: ${HOLDER_COMMANDS} commands of the holder; of each process that waits ${WAITING_PROCESS_COMMANDS}, one message, and a look every ${LOOK_SECONDS} s.`,
        "What is above it is TIME, by which a process reads the server's clock now and then.",
      ],
    },
  ];
}
