import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { TestProject } from "vitest/node";
import { ask, findOnPath, findServerBinary, startRedis } from "./redis-server.js";

declare module "vitest" {
  export interface ProvidedContext {
    /** The shared server. It may be somebody's own: use a key prefix, remove only its keys, never flush. */
    redisUrl: string | undefined;
    /** The program that `startRedis` starts, for tests that stop, freeze or reconfigure a server. */
    redisBinary: string | undefined;
  }
}

interface SharedServer {
  readonly url: string;
  readonly from: string;
  stop(): Promise<void>;
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await findServer();
  const binary = findServerBinary();
  project.provide("redisUrl", server?.url);
  project.provide("redisBinary", binary);

  const untested: string[] = [];
  if (server === undefined) untested.push("everything that needs a Redis server");
  else console.log(`Redis for the tests: ${server.from}`);
  if (binary === undefined) untested.push("faults, ACLs and clusters (no redis-server or valkey-server to start)");

  if (server === undefined && process.env.CI) {
    throw new Error("No Redis server for the tests: set REDIS_URL, or put redis-server or valkey-server on PATH");
  }
  const warn = () => {
    if (untested.length > 0) console.warn(banner(untested));
  };
  warn();
  return async () => {
    await server?.stop();
    warn();
  };
}

async function findServer(): Promise<SharedServer | undefined> {
  const url = process.env.REDIS_URL;
  if (url) return { url, from: "REDIS_URL", stop: () => Promise.resolve() };

  if (findServerBinary() === undefined) {
    const inDocker = await startInDocker();
    if (inDocker !== undefined) return inDocker;
    if (!installServer()) return undefined;
  }
  const server = await startRedis();
  return { url: server.url, from: `${findServerBinary() ?? ""} on port ${server.port}`, stop: () => server.stop() };
}

async function startInDocker(): Promise<SharedServer | undefined> {
  const image = "redis:7";
  try {
    execFileSync("docker", ["info"], { stdio: "ignore", timeout: 10_000 });
  } catch {
    return undefined;
  }
  console.log(`No redis-server or valkey-server on PATH: starting ${image} in docker ...`);
  try {
    const run = ["run", "--detach", "--rm", "--publish", "127.0.0.1::6379", image];
    const container = execFileSync("docker", [...run, "redis-server", "--save", "", "--appendonly", "no"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
    }).trim();
    const stop = () => {
      execFileSync("docker", ["rm", "--force", container], { stdio: "ignore" });
      return Promise.resolve();
    };
    const published = execFileSync("docker", ["port", container, "6379/tcp"], { encoding: "utf8" });
    const port = Number(/:(\d+)\s*$/m.exec(published)?.[1]);
    const deadline = Date.now() + 30_000;
    while ((await ask(port, "PING\r\n", (text) => text.includes("\r\n")))?.startsWith("+PONG") !== true) {
      if (Date.now() > deadline) {
        await stop();
        throw new Error(`${image} did not answer on port ${port}`);
      }
      await sleep(50);
    }
    return { url: `redis://127.0.0.1:${port}`, from: `${image} in docker on port ${port}`, stop };
  } catch (error) {
    console.warn(`Docker answers but gives no Redis: ${String(error)}`);
    return undefined;
  }
}

/** True when a server is on `PATH` afterwards. Only where it is the system's own way and allowed: Debian or Ubuntu, root. */
function installServer(): boolean {
  if (process.getuid?.() !== 0 || findOnPath("apt-get") === undefined || !isDebian()) return false;
  console.log("No Redis server here. Running: apt-get update && apt-get install -y redis-server");
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  try {
    execFileSync("apt-get", ["update"], { stdio: "inherit", env });
    execFileSync("apt-get", ["install", "-y", "redis-server"], { stdio: "inherit", env });
  } catch (error) {
    console.warn(`apt-get could not install redis-server: ${String(error)}`);
  }
  return findServerBinary() !== undefined;
}

function isDebian(): boolean {
  try {
    return /^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(readFileSync("/etc/os-release", "utf8"));
  } catch {
    return false;
  }
}

function banner(untested: readonly string[]): string {
  const line = "!".repeat(100);
  const what = untested.map((part) => `!!   - ${part}`).join("\n");
  return `\n${line}\n!! NOT TESTED in this run:\n${what}\n!! Set REDIS_URL, or put redis-server or valkey-server on PATH.\n${line}\n`;
}
