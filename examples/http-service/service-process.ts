import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Cleanup } from "../support/cleanup.js";

/** An example that listens, in the folder above. */
type Service = "http-service.ts" | "shop.ts";

export interface ServiceProcess {
  readonly address: string;
  /** How it has ended. */
  exit(): { readonly code: number | null; readonly signal: NodeJS.Signals | null };
  /** Asks it to stop, and waits until it has. */
  stop(): Promise<void>;
}

/** A service in a process of its own, on a free port. `execArgv` holds the loader that understands TypeScript. */
export async function startService(
  environment: NodeJS.ProcessEnv,
  cleanup: Cleanup,
  execArgv: readonly string[] = process.execArgv,
  service: Service = "http-service.ts",
): Promise<ServiceProcess> {
  const path = fileURLToPath(new URL(`../${service}`, import.meta.url));
  const child = spawn(process.execPath, [...execArgv, path], {
    env: { ...process.env, PORT: "0", ...environment },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const stop = () => end(child);
  cleanup.defer(stop);
  const exit = () => ({ code: child.exitCode, signal: child.signalCode });
  return { address: await listeningAddress(child), exit, stop };
}

function listeningAddress(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = "";
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      output += chunk;
      const address = /Listening on (\S+)\s/.exec(output)?.[1];
      if (address !== undefined) resolve(address);
    });
    child.once("error", reject);
    child.once("exit", () => reject(new Error(`The service ended before it listened: ${output}`)));
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGTERM");
  await gone;
}
