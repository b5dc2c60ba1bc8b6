import type { Machine } from "../harness/machine.js";
import type { StoredRun } from "../harness/results.js";
import { markdownTable } from "./markdown-table.js";

/** When and on what the runs were made; each may have been made by itself. */
export function describeMachines(runs: readonly StoredRun<unknown>[]): string {
  const machines = new Set(runs.map(({ machine }) => machineLine(machine)));
  if (machines.size === 1 && runs.every(({ short }) => !short)) {
    const days = [...new Set(runs.map(({ startedAt }) => startedAt.slice(0, 10)))].sort();
    const minutes = runs.reduce((sum, { durationSeconds }) => sum + durationSeconds, 0) / 60;
    return `${[...machines][0]!}. Measured on ${days.join(" and ")}, in ${minutes.toFixed(0)} minutes.`;
  }
  const rows = runs.map(({ scenario, short, startedAt, durationSeconds, machine }) => [
    scenario + (short ? " (short form)" : ""),
    startedAt.slice(0, 10),
    `${Math.round(durationSeconds)} s`,
    machineLine(machine),
  ]);
  return markdownTable({ columns: ["run", "date", "took", "machine"], rows });
}

function machineLine({ cores, cpu, memoryGiB, system, node, redis }: Machine): string {
  return `${cores} cores of ${cpu}, ${memoryGiB} GiB, ${system}, Node ${node.replace(/^v/, "")}, Redis ${redis}`;
}

/** Each contender once, as the latest run that has it says. */
export function describeContenders(runs: readonly StoredRun<unknown>[]): string {
  const byName = new Map(runs.flatMap(({ contenders }) => contenders.map((contender) => [contender.name, contender])));
  return [...byName.values()]
    .map(({ name, version, configuration }) => `- **${name}** (${version}): \`${configuration.replaceAll("`", "'")}\``)
    .join("\n");
}
