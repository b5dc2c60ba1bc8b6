import { percentile } from "../support/percentile.js";
import type { MeasuredHerd } from "./measured-herd.js";
import { formatCount, formatMs } from "./output.js";

export interface HerdRow extends MeasuredHerd {
  readonly label: string;
  readonly queries: number;
}

export const herdHeadings = [
  "",
  "DB\nqueries",
  "wall\ntime",
  "p99\nlatency",
  "over the\nquery",
  "Redis\ncommands",
] as const;

export function herdCells(row: HerdRow, queryMs: number): string[] {
  const p99Ms = percentile(row.latenciesMs, 0.99);
  return [
    row.label,
    formatCount(row.queries),
    formatMs(row.wallMs),
    formatMs(p99Ms),
    formatMs(Math.max(0, p99Ms - queryMs)),
    formatCount(row.commandsSent),
  ];
}
