import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync, statSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** A server of this process's own: it may be stopped, killed, frozen or reconfigured at will. */
export interface RedisServer {
  readonly host: string;
  readonly port: number;
  readonly url: string;
  readonly pid: number;
  readonly process: ChildProcess;
  /** Ends the server, frozen or not, and resolves when it is gone. May be called again. */
  stop(): Promise<void>;
}

export interface StartRedisOptions {
  /** Further arguments; they come last, so they override the defaults (`["--appendonly", "yes"]`). */
  readonly args?: readonly string[];
  /** Default: a free one. Given, for a server that comes back where another has stopped. */
  readonly port?: number;
  /** Working directory, which `stop` leaves in place. Default: a temporary one, removed by `stop`. */
  readonly dir?: string;
}

const host = "127.0.0.1";
const startTimeoutMs = 15_000;
const graceMs = 2_000;

/** `REDIS_SERVER_BINARY`, else `redis-server` or `valkey-server` on `PATH`, else undefined. */
export function findServerBinary(): string | undefined {
  const chosen = process.env.REDIS_SERVER_BINARY;
  if (chosen) {
    if (!isExecutable(chosen)) throw new Error(`REDIS_SERVER_BINARY is not an executable file: ${chosen}`);
    return chosen;
  }
  return findOnPath("redis-server") ?? findOnPath("valkey-server");
}

/** The full path of a command on `PATH`, else undefined. */
export function findOnPath(command: string): string | undefined {
  const directories = (process.env.PATH ?? "").split(delimiter).filter((directory) => directory !== "");
  return directories.map((directory) => join(directory, command)).find(isExecutable);
}

/** Starts a server without persistence on the loopback interface, and resolves when it answers. */
export async function startRedis(options: StartRedisOptions = {}): Promise<RedisServer> {
  const binary = findServerBinary();
  if (binary === undefined) throw new Error("Neither redis-server nor valkey-server is on PATH");

  const ownDirectory = options.dir === undefined;
  const directory = options.dir ?? mkdtempSync(join(tmpdir(), "cachefence-redis-"));
  const removeDirectory = () => {
    if (ownDirectory) rmSync(directory, { recursive: true, force: true });
  };
  try {
    if (options.port !== undefined) return await launch(binary, options.port, directory, options, removeDirectory);
    // Between the moment a port is found free and the moment the server binds it, somebody else may take it.
    for (let attemptsLeft = 5; ; attemptsLeft--) {
      try {
        return await launch(binary, await findFreePort(), directory, options, removeDirectory);
      } catch (error) {
        if (attemptsLeft <= 1 || !(error instanceof PortTakenError)) throw error;
      }
    }
  } catch (error) {
    removeDirectory();
    throw error;
  }
}

class PortTakenError extends Error {}

async function launch(
  binary: string,
  port: number,
  directory: string,
  options: StartRedisOptions,
  removeDirectory: () => void,
): Promise<RedisServer> {
  const defaults = ["--port", String(port), "--bind", host, "--dir", directory, "--save", "", "--appendonly", "no"];
  const child = spawn(binary, [...defaults, ...(options.args ?? [])], {
    cwd: directory,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const watchdog = watch(child.pid, options.dir === undefined ? directory : undefined);
  let failure: Error | undefined;
  const gone = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", (error) => {
      failure = error;
      resolve();
    });
  }).then(() => {
    watchdog?.kill("SIGKILL"); // Before the process id can belong to somebody else.
  });

  let log = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk: string) => (log = (log + chunk).slice(-4_000)));
    // A forgotten server is ended by its watchdog; it must not be what keeps the process from exiting.
    (stream as unknown as Socket).unref();
  }
  child.unref();

  const isGone = () => failure !== undefined || child.exitCode !== null || child.signalCode !== null;
  const stop = async () => {
    if (!isGone()) {
      child.kill("SIGTERM");
      child.kill("SIGCONT"); // A frozen server sees the SIGTERM only once it runs again.
      const killer = setTimeout(() => child.kill("SIGKILL"), graceMs);
      await gone;
      clearTimeout(killer);
    }
    removeDirectory();
  };

  const deadline = Date.now() + startTimeoutMs;
  while (!(await answers(port, child.pid))) {
    if (isGone()) {
      const message = `${binary} did not start on port ${port}: ${failure?.message ?? log}`;
      throw /address already in use/i.test(log) ? new PortTakenError(message) : new Error(message);
    }
    if (Date.now() > deadline) {
      await stop();
      throw new Error(`${binary} did not answer on port ${port} within ${startTimeoutMs} ms: ${log}`);
    }
    await sleep(10);
  }
  if (child.pid === undefined) throw new Error(`${binary} has no process id`);
  return { host, port, url: `redis://${host}:${port}`, pid: child.pid, process: child, stop };
}

// Ends the server when this process is gone, however it went: a test runner kills its workers, and a test may crash. The
// shell waits for the end of its input, which only the death of this process (or of the shell) brings.
function watch(pid: number | undefined, temporaryDirectory = ""): ChildProcess | undefined {
  if (pid === undefined) return undefined;
  const script = 'read _; kill -9 "$1"; [ -z "$2" ] || rm -rf "$2"';
  const watchdog = spawn("sh", ["-c", script, "sh", String(pid), temporaryDirectory], {
    stdio: ["pipe", "ignore", "ignore"],
  });
  watchdog.on("error", () => undefined); // No shell, no watchdog: `stop` still ends the server.
  watchdog.unref();
  (watchdog.stdin as unknown as Socket).unref();
  return watchdog;
}

// True when a server answers there and is not somebody else's. One that wants a password, or has lost INFO, answers too.
async function answers(port: number, pid: number | undefined): Promise<boolean> {
  const reply = await ask(
    port,
    "PING\r\nINFO server\r\n",
    (text) => /^process_id:\d+\r$/m.test(text) || /^-/m.test(text),
  );
  if (reply === undefined || /^-(LOADING|MASTERDOWN)/m.test(reply)) return false;
  const answeredBy = /^process_id:(\d+)\r$/m.exec(reply)?.[1];
  return answeredBy === undefined ? /^[+-]/.test(reply) : Number(answeredBy) === pid;
}

/** Sends inline commands over a raw socket; undefined when nothing listens or no complete reply comes. */
export function ask(
  port: number,
  commands: string,
  isComplete: (text: string) => boolean,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect({ host, port });
    const end = (reply: string | undefined) => {
      socket.destroy();
      resolve(reply);
    };
    socket.setTimeout(1_000, () => end(undefined));
    socket.once("error", () => end(undefined));
    socket.once("close", () => end(undefined));
    socket.once("connect", () => socket.write(commands));
    socket.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      if (isComplete(text)) end(text);
    });
  });
}

// Below the ephemeral range, so that no outgoing connection takes it, and low enough for a cluster bus (port + 10,000).
export async function findFreePort(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 18_000);
    if ((await canListen(port)) && (await canListen(port + 10_000))) return port;
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ host, port, exclusive: true }, () => {
      const bound = (server.address() as AddressInfo).port === port;
      server.close(() => resolve(bound));
    });
  });
}

/** True for a file that may be run. */
export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
