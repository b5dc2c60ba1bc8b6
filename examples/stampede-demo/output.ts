const WIDEST = 80;
const NARROWEST = 24;
const GAP = "  ";

/** Plain text for a terminal or a file: no colour, at most 80 columns, less where the terminal has less. */
export class Output {
  readonly #stream: NodeJS.WriteStream;
  #progressLength = 0;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  get #width(): number {
    // A stream that is no terminal has no columns, whatever its type says.
    const columns = (this.#stream.columns as number | undefined) ?? Number(process.env.COLUMNS ?? WIDEST);
    return Math.max(NARROWEST, Math.min(WIDEST, columns || WIDEST));
  }

  line(text = ""): void {
    this.#clearProgress();
    this.#stream.write(`${text}\n`);
  }

  paragraph(text: string): void {
    for (const line of wrap(text, this.#width)) this.line(line);
  }

  /** What runs now. In a terminal it makes room for what is printed next; elsewhere it stays as a line. */
  progress(text: string): void {
    if (!this.#stream.isTTY) {
      this.line(`... ${text}`);
      return;
    }
    const shown = `... ${text}`.slice(0, this.#width - 1);
    this.#clearProgress();
    this.#stream.write(shown);
    this.#progressLength = shown.length;
  }

  /** A step within what runs now; only in a terminal, where it replaces the last one. */
  tick(text: string): void {
    if (this.#stream.isTTY) this.progress(text);
  }

  /** Headings may have two lines. The first column holds names, the others figures. */
  table(headings: readonly string[], rows: readonly (readonly string[])[]): void {
    const split = headings.map((heading) => heading.split("\n"));
    const top = split.map((lines) => (lines.length > 1 ? (lines[0] ?? "") : ""));
    const bottom = split.map((lines) => lines.at(-1) ?? "");
    const all = [top, bottom, ...rows];
    const widths = headings.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
    const total = widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1));
    if (total > this.#width) {
      this.#list(headings, rows);
      return;
    }
    for (const row of all) {
      const cells = row.map((cell, column) =>
        column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      );
      this.line(cells.join(GAP).trimEnd());
    }
  }

  // A table too wide for the terminal would be broken by it into something that nobody can read.
  #list(headings: readonly string[], rows: readonly (readonly string[])[]): void {
    for (const [name = "", ...cells] of rows) {
      this.line(name);
      cells.forEach((cell, index) => this.line(`${GAP}${headings[index + 1]?.replace("\n", " ") ?? ""}: ${cell}`));
    }
  }

  #clearProgress(): void {
    if (this.#progressLength > 0) this.#stream.write(`\r${" ".repeat(this.#progressLength)}\r`);
    this.#progressLength = 0;
  }
}

export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}

export function formatCount(value: number): string {
  return value.toLocaleString("en-US");
}

export function formatMs(milliseconds: number): string {
  return `${formatCount(Math.round(milliseconds))} ms`;
}
