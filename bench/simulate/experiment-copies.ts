import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type CopiesLoad, type CopiesSummary, runCopies } from "./copies-run.js";
import * as cost from "./cost-model.js";
import type { ExperimentContext } from "./experiment.js";
import { number, percent, seconds, textTable } from "./text-table.js";

export interface CopiesRow {
  readonly load: CopiesLoad;
  readonly summary: CopiesSummary;
  /** Of Redis' time, for the same requests without copies. Above 1 it cannot be done. */
  readonly redisShareWithout: number;
}

export interface FenceCapacityRow {
  readonly holders: number;
  readonly commands: number;
  readonly messages: number;
  /** In order, one after the other, for 70% of Redis' time. */
  readonly fencesPerSecond: number;
  /** From the call of a fence to its resolution, when all are there to answer and Redis does nothing else. */
  readonly latencySeconds: number;
  /** As bench/results/memory.json has it; null where that size was not measured. */
  readonly measured: { readonly commands: number; readonly messages: number } | null;
}

export interface CopyReadsRow {
  readonly processes: number;
  readonly commandsPerSecond: { readonly measured: number; readonly simulated: number };
}

const BUSY_TARGET = 0.7;
const PROCESS_RATE = 1_000;
const DELTA_SECONDS = 0.05;

interface MeasuredMemory {
  readonly outcome: {
    readonly fences: readonly {
      readonly holders: number;
      readonly one: string;
      readonly commands: number | null;
      readonly messages: number | null;
    }[];
    readonly copies: {
      readonly processes: number;
      readonly readsPerSecond: number;
      readonly commandsPerSecond: number;
    } | null;
  };
}

/** One hot key that every process reads a thousand times a second, with copies in memory. */
export function playCopies({ random, isShort, print }: ExperimentContext): CopiesRow[] {
  const rows = [1, 10, 100, 1_000, 10_000].flatMap((processes) =>
    [0, 1 / 60, 0.2, 1].map((fencesPerSecond): CopiesRow => {
      const load = {
        ...{ processes, fencesPerSecond, ratePerSecond: PROCESS_RATE * processes },
        ...{ leaseSeconds: cost.MEMORY_LEASE_SECONDS, deltaSeconds: DELTA_SECONDS },
      };
      const readsPerSecond = processes * cost.TURNS_PER_SECOND * -Math.expm1(-PROCESS_RATE / cost.TURNS_PER_SECOND);
      return {
        load,
        summary: runCopies(random, load, isShort ? 60 : 600),
        redisShareWithout: readsPerSecond / cost.PRIMARY_COMMANDS_PER_SECOND,
      };
    }),
  );
  print(
    textTable(rows, [
      { title: "processes", text: ({ load }) => number(load.processes) },
      { title: "requests/s", text: ({ load }) => number(load.ratePerSecond) },
      { title: "fences/s", text: ({ load }) => number(load.fencesPerSecond) },
      { title: "holders at a fence", text: ({ summary }) => number(summary.holders) },
      { title: "commands/s", text: ({ summary }) => number(summary.commandsPerSecond) },
      { title: "messages/s", text: ({ summary }) => number(summary.messagesPerSecond) },
      { title: "without a command", text: ({ summary }) => percent(summary.withoutCommandShare) },
      { title: "Redis busy", text: ({ summary }) => percent(summary.redisShare) },
      { title: "without memory", text: ({ redisShareWithout }) => percent(redisShareWithout) },
    ]),
  );
  return rows;
}

/** How many fences a primary carries: plain arithmetic on the cost model, beside what was measured. */
export function tabulateFences({ print }: ExperimentContext): FenceCapacityRow[] {
  const measured = readMeasured()?.outcome.fences.filter(({ one }) => one === "answers") ?? [];
  const rows = [0, 1, 3, 15, 100, 1_000, 10_000].map((holders): FenceCapacityRow => {
    const commands = cost.FENCE_COMMANDS + holders * cost.FENCED_COPY_COMMANDS;
    const messages = holders * cost.FENCED_COPY_MESSAGES;
    const busySeconds =
      (cost.FENCE_COMMANDS * cost.SCRIPT_WEIGHT + holders * cost.FENCED_COPY_COMMANDS) /
        cost.PRIMARY_COMMANDS_PER_SECOND +
      messages / cost.PRIMARY_MESSAGES_PER_SECOND;
    const found = measured.find((row) => row.holders === holders);
    const isCounted = found !== undefined && found.commands !== null && found.messages !== null;
    return {
      ...{ holders, commands, messages },
      fencesPerSecond: BUSY_TARGET / busySeconds,
      // There and back for the fence itself, and where there are holders, to one of them and back.
      latencySeconds: busySeconds + cost.ROUND_TRIP_SECONDS * (holders === 0 ? 1 : 2),
      measured: isCounted ? { commands: found.commands!, messages: found.messages! } : null,
    };
  });
  print(
    textTable(rows, [
      { title: "holders", text: ({ holders }) => number(holders) },
      { title: "commands a fence", text: ({ commands }) => number(commands) },
      { title: "measured", text: (row) => (row.measured ? number(row.measured.commands) : "-") },
      { title: "messages", text: ({ messages }) => number(messages) },
      { title: "measured", text: (row) => (row.measured ? number(row.measured.messages) : "-") },
      { title: "fences/s", text: ({ fencesPerSecond }) => number(fencesPerSecond) },
      { title: "latency", text: ({ latencySeconds }) => seconds(latencySeconds) },
    ]),
  );
  return rows;
}

/** What a few processes with copies send for one hot key: measured, and the same load simulated. */
export function compareCopies({ random, print }: ExperimentContext): CopyReadsRow[] {
  const copies = readMeasured()?.outcome.copies;
  if (!copies) {
    print("Not measured yet: npm run bench -- memory");
    return [];
  }
  const load = {
    ...{ processes: copies.processes, ratePerSecond: copies.readsPerSecond, fencesPerSecond: 0 },
    ...{ leaseSeconds: cost.MEMORY_LEASE_SECONDS, deltaSeconds: DELTA_SECONDS },
  };
  const simulated = runCopies(random, load, 600).commandsPerSecond;
  const rows = [{ processes: copies.processes, commandsPerSecond: { measured: copies.commandsPerSecond, simulated } }];
  print(
    textTable(rows, [
      { title: "processes", text: ({ processes }) => number(processes) },
      { title: "requests/s", text: () => number(copies.readsPerSecond) },
      { title: "commands/s: measured", text: (row) => number(row.commandsPerSecond.measured) },
      { title: "simulated", text: (row) => number(row.commandsPerSecond.simulated) },
    ]),
  );
  return rows;
}

/** The full run, or where there is none, the short one. */
function readMeasured(): MeasuredMemory | undefined {
  for (const file of ["memory.json", "short/memory.json"]) {
    try {
      const path = fileURLToPath(new URL(`../results/${file}`, import.meta.url));
      return JSON.parse(readFileSync(path, "utf8")) as MeasuredMemory;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  return undefined;
}
