import { mkdir, readFile, writeFile } from "node:fs/promises";
import { benchFolder } from "./folders.js";
import type { Machine } from "./machine.js";

/** A scenario's run, as it is written to disk; the pictures and the documentation are made from these files alone. */
export interface StoredRun<Outcome> {
  readonly scenario: string;
  readonly command: string;
  readonly short: boolean;
  readonly startedAt: string;
  readonly durationSeconds: number;
  readonly machine: Machine;
  readonly contenders: readonly { name: string; version: string; configuration: string }[];
  readonly outcome: Outcome;
}

function fileOf(scenario: string, short: boolean): URL {
  return new URL(`results/${short ? "short/" : ""}${scenario}.json`, benchFolder);
}

export async function writeRun<Outcome>(run: StoredRun<Outcome>): Promise<void> {
  const file = fileOf(run.scenario, run.short);
  await mkdir(new URL(".", file), { recursive: true });
  await writeFile(file, `${withShortArrays(JSON.stringify(run, roundedNumber, 1))}\n`);
}

async function readRun<Outcome>(scenario: string, short: boolean): Promise<StoredRun<Outcome> | undefined> {
  try {
    return JSON.parse(await readFile(fileOf(scenario, short), "utf8")) as StoredRun<Outcome>;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** The full run, or where there is none, the short one. */
export async function latestRun<Outcome>(scenario: string): Promise<StoredRun<Outcome>> {
  const run = (await readRun<Outcome>(scenario, false)) ?? (await readRun<Outcome>(scenario, true));
  if (!run) throw new Error(`No run of ${scenario} is stored: npm run bench -- ${scenario}`);
  return run;
}

/** A list of numbers takes one line, not one for each of a thousand latencies. */
function withShortArrays(json: string): string {
  return json.replace(/\[\s+(-?\d[^\][{}":]*?)\s+\]/g, (_array, numbers: string) => `[${numbers.replace(/\s+/g, "")}]`);
}

// A microsecond and a thousandth of a ratio are finer than any of this can be repeated.
function roundedNumber(_key: string, value: unknown): unknown {
  return typeof value === "number" ? Math.round(value * 1e4) / 1e4 : value;
}
