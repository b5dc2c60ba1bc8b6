import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
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

/**
 * Starts the first of the programs that is on PATH, in memory only and on the loopback interface; the clean-up ends it.
 * Undefined: there is none, or it does not start.
 */
export async function startLocalServer(
  programs: readonly string[],
  cleanup: Cleanup,
): Promise<LocalServer | undefined> {
  for (const program of programs) {
    // Between the moment a port is found free and the moment the server binds it, somebody else may take it: try again.
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const port = await findFreePort();
      const outcome = await launch(program, port, cleanup);
      if (outcome === "ready") return { program, port };
      if (outcome === "absent") break;
    }
  }
  return undefined;
}

async function launch(program: string, port: number, cleanup: Cleanup): Promise<"ready" | "absent" | "failed"> {
  const directory = await mkdtemp(join(tmpdir(), "cachefence-demo-"));
  cleanup.defer(() => rm(directory, { recursive: true, force: true }));

  const address = ["--port", String(port), "--bind", "127.0.0.1"];
  const child = spawn(program, [...address, "--dir", directory, "--save", "", "--appendonly", "no"], {
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

function findFreePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}
