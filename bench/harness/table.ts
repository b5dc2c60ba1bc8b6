import type { Spread } from "./statistics.js";

export interface Table {
  readonly title: string;
  /** What a reader must know to read the numbers. */
  readonly notes?: readonly string[];
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** As plain text: the first column to the left, numbers to the right. */
export function printTable({ title, notes = [], columns, rows }: Table): void {
  const widths = columns.map((column, i) => Math.max(column.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ");
  console.log(`\n${title}\n`);
  console.log(line(columns));
  console.log(widths.map((width) => "-".repeat(width)).join("  "));
  for (const row of rows) console.log(line(row));
  for (const note of notes) console.log(`  ${note}`);
}

/** `12.3 (11.9..13.0)`, or just the number when all rounds agree. */
export function showSpread(spread: Spread, digits = 0): string {
  const [median, min, max] = [spread.median, spread.min, spread.max].map((value) => showNumber(value, digits));
  return min === max ? median! : `${median} (${min}..${max})`;
}

/** For a title. */
export function showRounds(rounds: number, of = ""): string {
  return rounds === 1 ? `1 round${of}` : `${rounds} rounds${of}; median, min..max`;
}

export function showNumber(value: number, digits = 0): string {
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
