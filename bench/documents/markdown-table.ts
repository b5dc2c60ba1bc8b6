import type { Table } from "../harness/table.js";

/** As prettier would write it: the first column to the left, numbers to the right, cells padded. */
export function markdownTable({ columns, rows }: Pick<Table, "columns" | "rows">): string {
  const cells = [columns, ...rows].map((row) => row.map(escapeCell));
  const widths = columns.map((_, i) => Math.max(i === 0 ? 3 : 4, ...cells.map((row) => row[i]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(" | ")} |`;
  const rule = widths.map((width, i) => (i === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`));
  const [head = [], ...body] = cells;
  return [line(head), `| ${rule.join(" | ")} |`, ...body.map(line)].join("\n");
}

/** A title, the table, what a reader must know to read it. */
export function markdownSection({ title, notes = [], ...table }: Table): string {
  return [`### ${title}`, markdownTable(table), ...(notes.length > 0 ? [notes.join("\n")] : [])].join("\n\n");
}

function escapeCell(cell: string): string {
  return cell.replaceAll("|", "\\|");
}
