import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { findOnPath, isExecutable } from "../support/redis-server.js";
import { textTable } from "../support/text-table.js";

/**
 * Runs the tests that speak with a server against each of several server programs, and prints a table.
 *
 *     REDIS_SERVER_BINARIES="/path/to/redis-server /path/to/valkey-server" npm run test:servers -- [vitest arguments]
 *
 * The list is separated by spaces or colons. Without it: whatever of `redis-server` and `valkey-server` is on `PATH`. The
 * arguments take the place of the folders that are run by default.
 */
const ROOT = join(import.meta.dirname, "../..");
const FOLDERS = ["test/redis/", "test/faults/", "test/fleet/"];
const given = process.argv.slice(2);

interface Run {
  readonly binary: string;
  readonly version: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
  readonly failures: readonly string[];
  /** True if the run ended as it should: also without an unhandled rejection, which is no test's failure. */
  readonly isGreen: boolean;
}

/** What vitest's JSON reporter writes, as far as it is read here. */
interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

function binaries(): string[] {
  const listed = (process.env.REDIS_SERVER_BINARIES ?? "").split(/[\s:]+/).filter((binary) => binary !== "");
  const missing = listed.filter((binary) => !isExecutable(binary));
  if (missing.length > 0) throw new Error(`REDIS_SERVER_BINARIES: not an executable file: ${missing.join(", ")}`);
  if (listed.length > 0) return listed;
  const found = ["redis-server", "valkey-server"].flatMap((command) => findOnPath(command) ?? []);
  if (found.length === 0) throw new Error("No server to test: set REDIS_SERVER_BINARIES, or put redis-server on PATH");
  return found;
}

/** "Redis 7.0.15" or "Valkey 9.1.2". */
function versionOf(binary: string): string {
  const said = execFileSync(binary, ["--version"], { encoding: "utf8" });
  const [, name, version] = /^(\w+) server v=(\S+)/.exec(said) ?? [];
  return name === undefined || version === undefined ? said.trim() : `${name} ${version}`;
}

async function run(binary: string, directory: string): Promise<Run> {
  const version = versionOf(binary);
  const file = join(directory, "report.json");
  console.log(`\n==> ${version} (${binary})`);
  // A server that is running already would be tested in place of this one.
  const { REDIS_URL: _, ...env } = process.env;
  const startedMs = performance.now();
  const code = await new Promise((resolve, reject) => {
    const vitest = join(ROOT, "node_modules/vitest/vitest.mjs");
    const reporters = ["--reporter=dot", "--reporter=json", `--outputFile.json=${file}`];
    const child = spawn(process.execPath, [vitest, "run", ...reporters, ...(given.length > 0 ? given : FOLDERS)], {
      cwd: ROOT,
      env: { ...env, REDIS_SERVER_BINARY: binary },
      stdio: "inherit",
    });
    child.once("error", reject);
    child.once("exit", resolve);
  });
  const seconds = (performance.now() - startedMs) / 1000;
  const report = JSON.parse(readFileSync(file, "utf8")) as Report;
  rmSync(file);
  const failures = report.testResults.flatMap(({ name, status, message, assertionResults }) => {
    const failed = assertionResults.filter((test) => test.status === "failed");
    if (failed.length > 0) return failed.map(({ fullName }) => `${basename(name)}: ${fullName}`);
    // A file that could not be loaded, or whose hooks failed, has no test that says so.
    return status === "failed" ? [`${basename(name)}: ${message}`] : [];
  });
  return {
    binary,
    version,
    passed: report.numPassedTests,
    failed: report.numFailedTests,
    skipped: report.numPendingTests,
    seconds,
    failures,
    isGreen: code === 0,
  };
}

const directory = mkdtempSync(join(tmpdir(), "cachefence-servers-"));
const runs: Run[] = [];
try {
  for (const binary of binaries()) runs.push(await run(binary, directory));
} finally {
  rmSync(directory, { recursive: true, force: true });
}

for (const { version, failures } of runs) {
  if (failures.length > 0) console.log(`\nFailed on ${version}:\n  ${failures.join("\n  ")}`);
}
const rows = runs.map(({ binary, version, passed, failed, skipped, seconds, isGreen }) => [
  version,
  basename(binary),
  String(passed),
  String(failed),
  String(skipped),
  seconds.toFixed(0),
  isGreen ? "yes" : "NO",
]);
console.log(`\n${textTable(["server", "binary", "passed", "failed", "skipped", "seconds", "green"], rows)}`);
process.exitCode = runs.every(({ isGreen }) => isGreen) ? 0 : 1;
