import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { cacheAside } from "../../examples/stampede-demo/strategies.js";
import { describeOwnRedis } from "../support/describe-redis.js";
import { ask, type RedisServer, startRedis } from "../support/redis-server.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const smallFlags = ["--callers", "40", "--latency", "100", "--processes", "2", "--ttl", "1"];
const testTimeoutMs = 60_000;

interface Ended {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface RunningDemo {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves with everything printed so far once the pattern is in it, or once the demo has ended. */
  until(pattern: RegExp): Promise<string>;
}

const started = new Set<ChildProcess>();
afterEach(() => {
  for (const child of started) child.kill("SIGKILL");
  started.clear();
});

function startDemo(flags: readonly string[], environment: NodeJS.ProcessEnv): RunningDemo {
  const child = spawn(process.execPath, ["--import", "tsx", "examples/stampede-demo.ts", ...flags], {
    cwd: root,
    env: { ...process.env, REDIS_URL: "", COLUMNS: "80", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  started.add(child);
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
  const ended = new Promise<Ended>((resolve) => {
    child.once("close", (exitCode: number | null) => resolve({ exitCode, stdout, stderr }));
  });
  const until = (pattern: RegExp) =>
    new Promise<string>((resolve) => {
      const look = () => {
        if (pattern.test(stdout)) resolve(stdout);
      };
      child.stdout.on("data", look);
      child.once("close", () => resolve(stdout));
      look();
    });
  return { child, ended, until };
}

/** The figures of a table row, without their units. */
function figures(output: string, act: number, label: string): number[] {
  const text = output.split(/^Act \d: /m)[act] ?? "";
  const row = text.split("\n").find((line) => line.startsWith(`${label}  `)) ?? "";
  return [...row.slice(label.length).matchAll(/[\d,]+/g)].map(([figure]) => Number(figure.replaceAll(",", "")));
}

async function isUp(port: number): Promise<boolean> {
  return (await ask(port, "PING\r\n", (text) => text.includes("\r\n"))) !== undefined;
}

describeOwnRedis("the demo on a server", () => {
  let server: RedisServer;
  let redis: Redis;
  beforeAll(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
  });
  afterAll(async () => {
    redis.disconnect();
    await server.stop();
  });
  beforeEach(async () => {
    await redis.set("somebody-elses", "stays");
  });

  it(
    "shows many queries becoming one, and leaves nothing behind but what was there",
    async () => {
      const { exitCode, stdout, stderr } = await startDemo(smallFlags, { REDIS_URL: server.url }).ended;

      expect(stderr).toBe("");
      expect(exitCode).toBe(0);
      expect(stdout).toContain(`Redis: ${server.url} (REDIS_URL).`);
      expect(stdout).toMatch(/^40 -> 1$/m);
      expect(figures(stdout, 1, "naive cache-aside")[0]).toBe(40);
      const [queries, , , , commandsSent] = figures(stdout, 1, "cachefence");
      expect(queries).toBe(1);
      expect(commandsSent).toBeLessThanOrEqual(12);
      // A process that is late finds what the other has stored, unless a lock is what keeps it from asking.
      expect(stdout).toMatch(/^\d+ -> [12] -> 1$/m);
      const [requests = 0, renewals = 0] = figures(stdout, 3, "cachefence");
      expect(requests).toBeGreaterThan(0);
      expect(renewals).toBeGreaterThan(0);
      expect(renewals).toBeLessThan(figures(stdout, 3, "naive cache-aside")[1] ?? 0);
      // Copies serve every read, and an invalidate in one process reaches those of the other.
      for (const label of ["first process", "second process"])
        expect(figures(stdout, 4, label)).toEqual([2_000, 2_000, 0]);
      expect(stdout).toMatch(/^20 fences: 20 new prices, 0 old$/m);
      expect(stdout).toMatch(/^How to go on\n {2}README\.md /m);
      expect(await redis.keys("*")).toEqual(["somebody-elses"]);
      expect(await redis.get("somebody-elses")).toBe("stays");
    },
    testTimeoutMs,
  );

  it(
    "removes its keys when it is interrupted",
    async () => {
      const demo = startDemo(smallFlags, { REDIS_URL: server.url });
      await demo.until(/steady load/);
      demo.child.kill("SIGINT");

      expect((await demo.ended).exitCode).toBe(130);
      expect(await redis.keys("*")).toEqual(["somebody-elses"]);
    },
    testTimeoutMs,
  );

  it(
    "starts a server of its own where none answers, and ends it",
    async () => {
      // That server would be somebody's, and the demo would rightly use it.
      if (await isUp(6379)) return;
      const demo = startDemo(smallFlags, {});
      const opening = await demo.until(/^Act 1/m);
      const port = Number(/own on port (\d+)/.exec(opening)?.[1]);
      expect(opening).toContain("To take another: REDIS_URL=redis://host:6379 npm run demo");
      expect(await isUp(port)).toBe(true);
      demo.child.kill("SIGTERM");

      expect((await demo.ended).exitCode).toBe(143);
      expect(await isUp(port)).toBe(false);
    },
    testTimeoutMs,
  );

  it("says so, without the password, when it cannot connect", async () => {
    const { exitCode, stdout, stderr } = await startDemo([], { REDIS_URL: "redis://:secret@127.0.0.1:1" }).ended;

    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^Cannot connect to Redis, .*127\.0\.0\.1:1.*ECONNREFUSED/);
    expect(stdout + stderr).not.toContain("secret");
  });
});

describe("the demo without a server", () => {
  it("asks the database for a key that expires while ioredis-mock reads it, and answers undefined", async () => {
    const get = vi.fn(() => Promise.resolve(undefined));
    const redis = { get, set: () => Promise.resolve("OK") } as unknown as Redis;
    const strategy = cacheAside({ redis, query: () => Promise.resolve("asked" as never), ttlSeconds: 1 });
    expect(await strategy.read("k")).toBe("asked");
    expect(get).toHaveBeenCalledTimes(1);
  });

  let emptyDirectory: string;
  beforeAll(() => {
    emptyDirectory = mkdtempSync(join(tmpdir(), "cachefence-empty-path-"));
  });
  afterAll(() => rmSync(emptyDirectory, { recursive: true }));

  it(
    "runs in memory, says what is left out for want of a server, and how to get one",
    async () => {
      // With a server there, the demo would rightly use it.
      if (await isUp(6379)) return;
      const { exitCode, stdout, stderr } = await startDemo(smallFlags, { PATH: emptyDirectory }).ended;

      expect(stderr).toBe("");
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(/^Redis: in memory/m);
      expect(stdout).toMatch(/^40 -> 1$/m);
      expect(stdout).toMatch(/^Act 2: a fleet \(left out\)\nA Redis in memory lives inside this one process/m);
      for (const way of ["Docker ", "Debian, Ubuntu ", "macOS ", "elsewhere .*REDIS_URL"]) {
        expect(stdout).toMatch(new RegExp(`^ {2}${way}`, "m"));
      }
      expect(stdout).toMatch(/^Act 3/m);
      expect(stdout).toMatch(/^Act 4: memory \(left out\)$/m);
    },
    testTimeoutMs,
  );

  it.each([
    [["--callers", "0"], 'Expected --callers to be a whole number from 2 to 20000, got "0"'],
    [["--ttl", "0.2"], "Expected --ttl to be at least 0.5 (10 times the latency), got 0.2"],
    [["--colour"], "Unknown option '--colour'"],
  ])("refuses %j with exit code 2", async (flags, message) => {
    const { exitCode, stdout, stderr } = await startDemo(flags, {}).ended;

    expect(exitCode).toBe(2);
    expect(stderr).toContain(message);
    expect(stdout).toBe("");
  });
});
