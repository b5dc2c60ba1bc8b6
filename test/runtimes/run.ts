import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ts from "typescript";
import { uniquePrefix } from "../support/describe-redis.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";
import { textTable } from "../support/text-table.js";

/**
 * Installs the packed package in an application, with each major of ioredis, and runs it on several runtimes, which it
 * takes from npm, and in jest. Everything is in a temporary folder. At the end: a table.
 *
 *     npm run test:runtimes -- [node@20 node@22 bun@1 deno@2 jest@30 ...]
 */
const ROOT = join(import.meta.dirname, "../..");
const DEFAULT = ["node@20", "node@22", "node@24", "node@26", "bun@latest", "deno@latest", "jest@latest"];
const MAJORS = ["5", "6"];
const SCENARIOS = ["stampede", "fence", "memory", "kill", "events", "require"];
const LONGEST_SCENARIO_MS = 60_000;

interface Runtime {
  readonly name: string;
  readonly command: string;
  /** In front of a program. */
  readonly flags: readonly string[];
}

interface Row {
  readonly runtime: string;
  readonly ioredis: string;
  readonly passed: number;
  readonly failed: readonly string[];
  readonly seconds: number;
  readonly takeover: string;
}

const chosen = process.argv.slice(2);
const workspace = mkdtempSync(join(tmpdir(), "cachefence-runtimes-"));

function run(cwd: string, command: string, ...args: string[]): string {
  return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

/** A folder with these packages in it. */
function installed(name: string, ...packages: string[]): string {
  const folder = join(workspace, name);
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true }));
  run(folder, "npm", "install", "--no-audit", "--no-fund", "--silent", ...packages);
  return folder;
}

function pack(): string {
  run(ROOT, "npm", "run", "--silent", "build", "--", "--silent", "--out-dir", "dist");
  run(ROOT, "npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", workspace);
  return join(
    workspace,
    readdirSync(workspace).find((name) => name.endsWith(".tgz"))!,
  );
}

/** A program of ours as JavaScript, for Node 20 runs nothing else. */
function translated(file: string, module: ts.ModuleKind): string {
  const source = readFileSync(join(import.meta.dirname, file), "utf8");
  const compilerOptions = { module, target: ts.ScriptTarget.ES2022, esModuleInterop: true };
  return ts.transpileModule(source, { compilerOptions }).outputText;
}

function install(spec: string): Runtime {
  const [name = "", version = "latest"] = spec.split("@");
  const folder = name + version;
  if (name === "node") {
    // The package "node" only installs this one.
    const binaries = `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`;
    const command = join(installed(folder, `${binaries}@${version}`), "node_modules", binaries, "bin/node");
    return { name: `Node ${run(workspace, command, "--version").trim().slice(1)}`, command, flags: ["--expose-gc"] };
  }
  const command = join(installed(folder, spec), "node_modules/.bin", name);
  const said = run(workspace, command, "--version").trim();
  if (name === "bun") return { name: `Bun ${said}`, command, flags: [] };
  if (name === "deno") {
    const flags = ["run", "--allow-all", "--quiet", "--v8-flags=--expose-gc"];
    return { name: `Deno ${/deno (\S+)/.exec(said)?.[1] ?? said}`, command, flags };
  }
  throw new Error(`Expected node@..., bun@..., deno@... or jest@..., got ${spec}`);
}

interface Outcome {
  readonly isPassed: boolean;
  readonly said: string;
}

function execute(cwd: string, command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => (said += text));
    }
    // One that has not ended by itself has failed, whatever it said.
    const limit = setTimeout(() => {
      said += `\nNot at its end after ${LONGEST_SCENARIO_MS} ms`;
      child.kill("SIGKILL");
    }, LONGEST_SCENARIO_MS);
    const end = (isPassed: boolean) => {
      clearTimeout(limit);
      resolve({ isPassed, said: said.trim() });
    };
    child.once("error", (error) => {
      said += String(error);
      end(false);
    });
    // Not "close": other processes that it has started may still hold its pipes, if it has failed.
    child.once("exit", (code) => setImmediate(() => end(code === 0)));
  });
}

async function tried(
  runtime: string,
  ioredis: string,
  names: readonly string[],
  attempt: (name: string) => Promise<Outcome>,
): Promise<Row> {
  const startedMs = performance.now();
  const failed: string[] = [];
  let takeover = "";
  for (const name of names) {
    const { isPassed, said } = await attempt(name);
    console.log(`${isPassed ? "passed" : "FAILED"}  ${runtime}, ioredis ${ioredis}: ${name}: ${said}`);
    if (!isPassed) failed.push(name);
    if (name === "kill") takeover = /\d+ ms/.exec(said)?.[0] ?? "";
  }
  const seconds = (performance.now() - startedMs) / 1000;
  return { runtime, ioredis, passed: names.length - failed.length, failed, seconds, takeover };
}

function onRuntime(runtime: Runtime, application: string, ioredis: string, server: RedisServer): Promise<Row> {
  return tried(runtime.name, ioredis, SCENARIOS, (scenario) => {
    const args = [...runtime.flags, "scenarios.mjs", scenario, String(server.port), uniquePrefix()];
    return execute(application, runtime.command, args, { RUNTIME_FLAGS: JSON.stringify(runtime.flags) });
  });
}

function inJest(application: string, ioredis: string, server: RedisServer): Promise<Row> {
  const jest = join(application, "node_modules/jest/bin/jest.js");
  const version = run(application, process.execPath, jest, "--version").trim();
  const environments = ["node", "jsdom"];
  return tried(`jest ${version}, Node ${process.versions.node}`, ioredis, environments, async (environment) => {
    const env = { PORT: String(server.port), NAMESPACE: uniquePrefix() };
    const outcome = await execute(application, process.execPath, [jest, "--env", environment], env);
    return outcome.isPassed ? { ...outcome, said: "a stampede, a wait, a fence, memory" } : outcome;
  });
}

let server: RedisServer | undefined;
const rows: Row[] = [];
try {
  const tarball = pack();
  server = await startRedis();
  const specs = chosen.length > 0 ? chosen : DEFAULT;
  const runtimes = specs.filter((spec) => !spec.startsWith("jest")).map(install);
  const jest = specs.find((spec) => spec.startsWith("jest"));
  for (const major of MAJORS) {
    const application = installed(`application-${major}`, tarball, `ioredis@${major}`);
    const manifest = readFileSync(join(application, "node_modules/ioredis/package.json"), "utf8");
    const { version } = JSON.parse(manifest) as { version: string };
    writeFileSync(join(application, "scenarios.mjs"), translated("scenarios.ts", ts.ModuleKind.ESNext));
    for (const runtime of runtimes) rows.push(await onRuntime(runtime, application, version, server));
    if (jest === undefined) continue;
    run(application, "npm", "install", "--no-audit", "--no-fund", "--silent", jest, "jest-environment-jsdom@latest");
    writeFileSync(join(application, "cache.test.js"), translated("in-jest.ts", ts.ModuleKind.CommonJS));
    rows.push(await inJest(application, version, server));
  }
} finally {
  await server?.stop();
  rmSync(workspace, { recursive: true, force: true });
}

const cells = rows.map(({ runtime, ioredis, passed, failed, seconds, takeover }) => [
  runtime,
  ioredis,
  String(passed),
  failed.length === 0 ? "0" : `${failed.length} (${failed.join(", ")})`,
  takeover,
  seconds.toFixed(1),
]);
console.log(`\n${textTable(["runtime", "ioredis", "passed", "failed", "takeover after", "seconds"], cells)}`);
process.exitCode = rows.every(({ failed }) => failed.length === 0) ? 0 : 1;
