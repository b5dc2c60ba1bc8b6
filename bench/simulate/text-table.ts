export interface Column<Row> {
  readonly title: string;
  readonly text: (row: Row) => string;
}

/** A Markdown table, padded so that it reads well in a terminal too. */
export function textTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const cells = [columns.map(({ title }) => title), ...rows.map((row) => columns.map(({ text }) => text(row)))];
  const widths = columns.map((_, column) => Math.max(...cells.map((line) => line[column]?.length ?? 0)));
  const lines = cells.map(
    (line) => `| ${line.map((cell, column) => cell.padStart(widths[column] ?? 0)).join(" | ")} |`,
  );
  const rule = `| ${widths.map((width) => `${"-".repeat(width - 1)}:`).join(" | ")} |`;
  return [lines[0], rule, ...lines.slice(1)].join("\n");
}

/** Three significant digits, thousands grouped. */
export function number(value: number): string {
  if (value === 0) return "0";
  if (Math.abs(value) < 0.001) return value.toExponential(1);
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

export function percent(share: number): string {
  if (share === 0) return "0";
  return share < 0.0001 ? `${(share * 100).toExponential(0)}%` : `${String(Number((share * 100).toPrecision(3)))}%`;
}

export function seconds(value: number): string {
  if (value === 0) return "0";
  if (Math.abs(value) < 0.001) return `${number(value * 1e6)} us`;
  return Math.abs(value) < 1 ? `${number(value * 1e3)} ms` : `${number(value)} s`;
}
