import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";

const START_TIMEOUT_MS = 5_000;

/** A redis-server of this run's own: from PATH, on a free port of the loopback interface, keeping nothing on disk. */
export class RedisServer {
  readonly url: string;
  readonly #process: ChildProcess;
  readonly #directory: string;

  private constructor(url: string, process: ChildProcess, directory: string) {
    this.url = url;
    this.#process = process;
    this.#directory = directory;
  }

  static async start(): Promise<RedisServer> {
    const port = await freePort();
    const directory = await mkdtemp(join(tmpdir(), "cachefence-bench-"));
    const child = spawn(
      "redis-server",
      ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory],
      { stdio: "ignore" },
    );
    // However this process ends, the server it started ends with it.
    process.once("exit", () => child.kill("SIGKILL"));
    const failed = once(child, "error").then(([error]: unknown[]) => {
      throw new Error("Could not start redis-server: is it installed and on PATH?", { cause: error });
    });
    const url = `redis://127.0.0.1:${port}`;
    await Promise.race([answers(url), failed]);
    return new RedisServer(url, child, directory);
  }

  async stop(): Promise<void> {
    const exited = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await exited;
    await rm(this.#directory, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("No free port");
  return address.port;
}

async function answers(url: string): Promise<void> {
  const redis = new Redis(url, { lazyConnect: true, retryStrategy: () => 20, maxRetriesPerRequest: null });
  // Refused until the server listens.
  redis.on("error", () => {});
  const deadline = sleep(START_TIMEOUT_MS, undefined, { ref: false }).then(() => {
    throw new Error(`redis-server did not answer within ${START_TIMEOUT_MS} ms`);
  });
  try {
    await Promise.race([redis.ping(), deadline]);
  } finally {
    redis.disconnect();
  }
}
