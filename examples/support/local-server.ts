import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Cleanup } from "./cleanup.js";

export interface LocalServer {
  readonly program: string;
  readonly port: number;
}

const START_TIMEOUT_MS = 10_000;
const GRACE_MS = 2_000;
const ATTEMPTS = 3;

const PROGRAMS = ["redis-server", "valkey-server"];

/**
 * Starts the first of the two programs that is on PATH, in memory only and on the loopback interface; the clean-up ends
 * it. Undefined: there is none, or it does not start.
 */
export async function startLocalServer(
  cleanup: Cleanup,
  furtherArguments: readonly string[] = [],
): Promise<LocalServer | undefined> {
  for (const program of PROGRAMS) {
    // Between the moment a port is found free and the moment the server binds it, somebody else may take it: try again.
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const port = await findFreePort();
      const outcome = await launch(program, port, furtherArguments, cleanup);
      if (outcome === "ready") return { program, port };
      if (outcome === "absent") break;
    }
  }
  return undefined;
}

async function launch(
  program: string,
  port: number,
  furtherArguments: readonly string[],
  cleanup: Cleanup,
): Promise<"ready" | "absent" | "failed"> {
  const directory = await mkdtemp(join(tmpdir(), "cachefence-example-"));
  cleanup.defer(() => rm(directory, { recursive: true, force: true }));

  const address = ["--port", String(port), "--bind", "127.0.0.1"];
  const inMemory = ["--dir", directory, "--save", "", "--appendonly", "no"];
  const child = spawn(program, [...address, ...inMemory, ...furtherArguments], {
    cwd: directory,
    stdio: ["ignore", "pipe", "ignore"],
  });
  // Whatever way this process exits, the server does not outlive it.
  const killAtExit = () => child.kill("SIGKILL");
  process.once("exit", killAtExit);
  child.once("exit", () => process.off("exit", killAtExit));
  cleanup.defer(() => end(child));

  return await new Promise((resolve) => {
    const tooSlow = setTimeout(() => {
      child.kill("SIGKILL");
    }, START_TIMEOUT_MS);
    const settle = (outcome: "ready" | "absent" | "failed") => {
      clearTimeout(tooSlow);
      resolve(outcome);
    };
    child.once("error", () => settle("absent"));
    child.once("exit", () => settle("failed"));
    let log = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      log = (log + chunk).slice(-4_000);
      if (log.includes("Ready to accept connections")) settle("ready");
    });
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const killer = setTimeout(() => child.kill("SIGKILL"), GRACE_MS);
  await gone;
  clearTimeout(killer);
}

// Low enough for the bus of a cluster's node, 10,000 above, and mostly below the ports that outgoing connections take.
async function findFreePort(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 18_000);
    if ((await isFree(port)) && (await isFree(port + 10_000))) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
  });
}
