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
  await writeFile(file, `${JSON.stringify(run, roundedNumber, 1)}\n`);
}

export async function readRun<Outcome>(scenario: string, short = false): Promise<StoredRun<Outcome>> {
  return JSON.parse(await readFile(fileOf(scenario, short), "utf8")) as StoredRun<Outcome>;
}

// A microsecond and a thousandth of a ratio are finer than any of this can be repeated.
function roundedNumber(_key: string, value: unknown): unknown {
  return typeof value === "number" ? Math.round(value * 1e4) / 1e4 : value;
}
