import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import type { Edit, Mutant } from "./mutants.js";
import { editText, mutants } from "./mutants.js";

/**
 * Takes the mechanisms out one by one, each in a copy of the tree, and tells what notices: the explorer, with a bounded
 * number of schedules, or else the test files that are named for it. The working tree is only read.
 *
 *     npm run test:mutants -- [--schedules 20000] [--jobs 2] [name ...]
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { schedules: { type: "string", default: "20000" }, jobs: { type: "string", default: "2" } },
});
const SCHEDULES = Number(values.schedules);
const ROOT = join(import.meta.dirname, "../..");
// What is not part of the tree, or is heavy and needed by no test that is named here.
const NOT_COPIED = new Set([".git", "node_modules", "dist", "coverage", "bench"]);
// A mutant may well run for ever. So long as this is a generous multiple of what a healthy run takes.
const LONGEST_EXPLORATION_MS = 60_000 + SCHEDULES * 15;
const LONGEST_TEST_FILE_MS = 180_000;

interface Finding {
  readonly by: string;
  readonly after: string;
  readonly what: string;
}

interface Verdict {
  readonly mutant: Mutant;
  readonly finding: Finding | undefined;
}

/** A copy of the tree, in which one mutant after another lives. */
class Copy {
  readonly #folder = mkdtempSync(join(tmpdir(), "cachefence-mutants-"));

  constructor() {
    const isCopied = (path: string): boolean => !NOT_COPIED.has(basename(path));
    cpSync(ROOT, this.#folder, { recursive: true, filter: isCopied });
    symlinkSync(join(ROOT, "node_modules"), join(this.#folder, "node_modules"));
  }

  async judge(mutant: Mutant): Promise<Verdict> {
    const undo = this.#apply(mutant.edits);
    try {
      const finding = (await this.#explore()) ?? (await this.#test(mutant.tests ?? []));
      return { mutant, finding };
    } finally {
      undo();
    }
  }

  #apply(edits: readonly Edit[]): () => void {
    const before = new Map<string, string>();
    for (const edit of edits) {
      const path = join(this.#folder, edit.file);
      const text = readFileSync(path, "utf8");
      if (!before.has(path)) before.set(path, text);
      writeFileSync(path, editText(text, edit));
    }
    return () => {
      for (const [path, text] of before) writeFileSync(path, text);
    };
  }

  async #explore(): Promise<Finding | undefined> {
    const run = await this.#run(
      ["--import", "tsx", "test/mutants/explore.ts", String(SCHEDULES), "1"],
      LONGEST_EXPLORATION_MS,
    );
    if (run.code === 0 && run.output.trim() === "null") return undefined;
    if (run.code !== 0) return { by: "explorer", after: seconds(run.tookMs), what: ending(run.code) };
    const { after, message } = JSON.parse(run.output) as { after: number; message: string };
    return { by: "explorer", after: `${after} schedules, ${seconds(run.tookMs)}`, what: message };
  }

  async #test(files: readonly string[]): Promise<Finding | undefined> {
    for (const file of files) {
      const run = await this.#run(
        ["node_modules/vitest/vitest.mjs", "run", "--bail=1", "--reporter=json", file],
        LONGEST_TEST_FILE_MS,
      );
      if (run.code === 0) continue;
      const failed = /"fullName":"((?:[^"\\]|\\.)*)","status":"failed"/.exec(run.output)?.[1];
      return {
        by: file,
        after: seconds(run.tookMs),
        what: failed ?? ending(run.code),
      };
    }
    return undefined;
  }

  #run(args: readonly string[], longestMs: number): Promise<{ code?: number; output: string; tookMs: number }> {
    const beganMs = performance.now();
    // A group of its own, so that the servers that it has started end with it.
    const child: ChildProcess = spawn(process.execPath, args, {
      cwd: this.#folder,
      detached: true,
      stdio: ["ignore", "pipe", "ignore"],
    });
    let output = "";
    child.stdout!.on("data", (chunk: Buffer) => (output += chunk.toString()));
    return new Promise((resolve) => {
      let hasTimedOut = false;
      const timer = setTimeout(() => {
        hasTimedOut = true;
        process.kill(-child.pid!, "SIGKILL");
      }, longestMs);
      child.on("close", (code) => {
        clearTimeout(timer);
        const tookMs = performance.now() - beganMs;
        resolve(hasTimedOut || code === null ? { output, tookMs } : { code, output, tookMs });
      });
    });
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true });
  }
}

function ending(code: number | undefined): string {
  return code === undefined ? "does not end" : `exits with ${code}`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(0)} s`;
}

/** A mutant with a reason to survive is wrong about itself once it is caught. */
function isAsSaid({ mutant, finding }: Verdict): boolean {
  return (finding === undefined) === (mutant.survives !== undefined);
}

function row({ mutant, finding }: Verdict): string {
  if (finding !== undefined) return `| ${mutant.name} | ${finding.by} | ${finding.after} | ${finding.what} |`;
  return `| ${mutant.name} | **survived** | | ${mutant.survives ?? "nothing notices it"} |`;
}

/** Nothing taken out: nothing may be noticed. */
function control(judged: readonly Mutant[]): Mutant {
  const tests = [...new Set(judged.flatMap((mutant) => mutant.tests ?? []))];
  return { name: "nothing", takesOut: "Nothing.", edits: [], tests, survives: "nothing is broken" };
}

const unknown = positionals.filter((name) => !mutants.some((mutant) => mutant.name === name));
if (unknown.length > 0) throw new Error(`There is no mutant ${unknown.join(", ")}`);
const waiting = mutants.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
if (positionals.length === 0) waiting.push(control(waiting));
const total = waiting.length;
const verdicts: Verdict[] = [];

async function work(): Promise<void> {
  const copy = new Copy();
  try {
    for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
      const verdict = await copy.judge(mutant);
      verdicts.push(verdict);
      console.error(`${String(verdicts.length)} of ${String(total)} ${row(verdict)}`);
    }
  } finally {
    copy.remove();
  }
}

await Promise.all(Array.from({ length: Number(values.jobs) }, work));
const order = new Map(mutants.map((mutant, index) => [mutant, index]));
const placeOf = ({ mutant }: Verdict): number => order.get(mutant) ?? -1;
verdicts.sort((a, b) => placeOf(a) - placeOf(b));
console.log(
  ["| mutant | caught by | after | what was seen |", "| --- | --- | --- | --- |", ...verdicts.map(row)].join("\n"),
);
const surprises = verdicts.filter((verdict) => !isAsSaid(verdict)).map(({ mutant }) => mutant.name);
if (surprises.length > 0) {
  console.error(`Not as the list says: ${surprises.join(", ")}`);
  process.exitCode = 1;
}
