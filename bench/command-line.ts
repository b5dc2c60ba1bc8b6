import { parseArgs } from "node:util";

export interface CommandLine {
  readonly scenarios: readonly string[];
  readonly short: boolean;
  readonly help: boolean;
  /** Parts of names; empty means all. */
  readonly contenders: readonly string[];
  readonly cases: readonly string[];
  readonly rounds: number | undefined;
}

export const USAGE = `npm run bench -- [scenario ...] [options]

  --short               the small sizes: everything within three minutes
  --contenders a,b      only contenders whose name contains one of these
  --cases a,b           only cases whose name contains one of these
  --rounds n            this many rounds instead of the scenario's own number

A run narrowed by --contenders, --cases or --rounds is printed and not stored.
A full run ends by writing docs/benchmarks.md and docs/pictures/; \`npm --prefix bench run docs\` writes them from what is stored.

Scenarios:`;

export function readCommandLine(args: readonly string[]): CommandLine {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      short: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
      contenders: { type: "string" },
      cases: { type: "string" },
      rounds: { type: "string" },
    },
  });
  const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
  if (rounds !== undefined && !(Number.isInteger(rounds) && rounds > 0)) {
    throw new RangeError(`Expected --rounds to be a whole number > 0, got ${values.rounds}`);
  }
  return {
    scenarios: positionals,
    short: values.short,
    help: values.help,
    contenders: listOf(values.contenders),
    cases: listOf(values.cases),
    rounds,
  };
}

export function isNarrowed({ contenders, cases, rounds }: CommandLine): boolean {
  return contenders.length > 0 || cases.length > 0 || rounds !== undefined;
}

/** Whether a name contains one of the parts; without parts every name is in. */
export function matches(name: string, parts: readonly string[]): boolean {
  return parts.length === 0 || parts.some((part) => name.includes(part));
}

function listOf(value: string | undefined): string[] {
  return value === undefined ? [] : value.split(",").filter((part) => part !== "");
}
