import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { subscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { createRequire } from "node:module";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { CacheFence, type CacheFenceOptions } from "cachefence";
import { Redis } from "ioredis";

// What is run on every runtime, over the packed package. `run.ts` starts one process for each scenario:
//
//     <runtime> scenarios.mjs <what> <port of a server> <namespace>
//
// A scenario that holds prints one line, and its process ends by itself with the code 0.
const [what = "", port = "", namespace = ""] = process.argv.slice(2);

// Longer than any scenario may take: nothing here ends because a lease or patience did.
const patient: CacheFenceOptions = { namespace, lockTimeout: 600, waitForLock: 600, redisTimeout: 20, beta: 0 };

const redis = new Redis(Number(port), "127.0.0.1");

async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(5);
}

const waiters = async (key: string): Promise<number> => {
  const members = await redis.zrange(`${namespace}${key}:audience`, 0, -1);
  return members.filter((member) => member.startsWith("w")).length;
};

/** A recompute that counts itself, and is held until the gate is opened, by whatever process. */
async function gated(value: string): Promise<string> {
  await redis.incr(`${namespace}recomputes`);
  await gateIsOpen();
  return value;
}
const gateIsOpen = () => until(async () => (await redis.exists(`${namespace}gate`)) === 1);
const openGate = () => redis.set(`${namespace}gate`, "open");
const recomputes = async () => Number(await redis.get(`${namespace}recomputes`));

/** Another process of the same runtime. It says a line for each step. */
class Other {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string, undefined>;

  constructor(role: string) {
    const flags = JSON.parse(process.env.RUNTIME_FLAGS ?? "[]") as string[];
    const args = [...flags, fileURLToPath(import.meta.url), role, port, namespace];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    this.#process = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  async hears(): Promise<unknown> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error("The other process has ended");
    return JSON.parse(value);
  }

  async kill(): Promise<void> {
    const exit = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await exit;
  }
}

const say = (told: unknown): void => console.log(JSON.stringify(told));

const scenarios: Record<string, () => Promise<string>> = {
  async stampede() {
    const cache = new CacheFence(redis, patient);
    const others = [new Other("callers"), new Other("callers")];
    const calls = Array.from({ length: 100 }, () => cache.getOrSet("key", 60, () => gated("value")));
    await until(async () => (await waiters("key")) === 2);
    await openGate();
    const values = [await Promise.all(calls), ...(await Promise.all(others.map((other) => other.hears())))].flat();
    assert.deepEqual(
      values,
      Array.from({ length: 300 }, () => "value"),
    );
    assert.equal(await recomputes(), 1);
    return "300 callers, 3 processes: 1 recompute";
  },

  async fence() {
    const cache = new CacheFence(redis, patient);
    const holder = new Other("holder");
    await until(async () => (await recomputes()) === 1);
    await cache.invalidate("key");
    assert.equal(await cache.getOrSet("key", 60, () => "new"), "new");
    await openGate();
    assert.deepEqual([await holder.hears(), await holder.hears()], ["old", "new"]);
    return "what began before it is not stored";
  },

  async memory() {
    const cache = new CacheFence(redis, { ...patient, memoryLease: 60 });
    await cache.set("key", 60, "old");
    const reader = new Other("reader");
    assert.deepEqual(await reader.hears(), { value: "old", memoryHits: true });
    await cache.set("key", 60, "new");
    // It was recalled, and not waited out.
    assert.equal(cache.stats().fenceWaits, 0);
    await openGate();
    assert.equal(await reader.hears(), "new");
    return "a copy is served, and recalled by a fence";
  },

  async kill() {
    const cache = new CacheFence(redis, patient);
    const holder = new Other("holder");
    await until(async () => (await recomputes()) === 1);
    let startedMs = 0;
    const call = cache.getOrSet("key", 60, () => ((startedMs = performance.now()), "taken over"));
    await until(async () => (await waiters("key")) === 1);
    const killedMs = performance.now();
    await holder.kill();
    assert.equal(await call, "taken over");
    return `taken over ${Math.max(0, startedMs - killedMs).toFixed(0)} ms after the SIGKILL`;
  },

  async events() {
    let hits = 0;
    subscribe("cachefence:hit", () => hits++);
    const cache = new CacheFence(redis, patient);
    await cache.set("key", 60, "value");
    const { Bun, gc } = globalThis as { Bun?: { gc(force: boolean): void }; gc?: () => void };
    for (let round = 0; round < 20; round++) {
      if (Bun !== undefined) Bun.gc(true);
      else gc!();
      await sleep(1);
    }
    await cache.getOrSet("key", 60, () => "never");
    assert.equal(hits, 1);
    return "heard after a garbage collection";
  },

  async require() {
    const required = createRequire(import.meta.url)("cachefence") as { CacheFence: typeof CacheFence };
    assert.notEqual(required.CacheFence, CacheFence);
    const cache = new required.CacheFence(redis, patient);
    assert.equal(await cache.getOrSet("key", 60, () => "value"), "value");
    assert.equal(await new CacheFence(redis, patient).getOrSet("key", 60, () => "never"), "value");
    return "one cache from import and from require";
  },
};

const roles: Record<string, () => Promise<void>> = {
  async callers() {
    const cache = new CacheFence(redis, patient);
    const calls = Array.from({ length: 100 }, () => cache.getOrSet("key", 60, () => gated("value")));
    say(await Promise.all(calls));
  },

  async holder() {
    const cache = new CacheFence(redis, patient);
    say(await cache.getOrSet("key", 60, () => gated("old")));
    say(await cache.getOrSet("key", 60, () => "never"));
  },

  async reader() {
    const cache = new CacheFence(redis, { ...patient, memory: new Map(), memoryLease: 60 });
    const read = () => cache.getOrSet("key", 60, () => "never");
    while (cache.stats().memoryHits === 0) await read();
    say({ value: await read(), memoryHits: cache.stats().memoryHits > 1 });
    await gateIsOpen();
    say(await read());
  },
};

// A process ends with the one that has started it, however that ends.
const parent = process.ppid;
setInterval(() => {
  if (process.ppid !== parent) process.exit(1);
}, 1_000).unref();

const scenario = scenarios[what];
if (scenario !== undefined) say(await scenario());
else await roles[what]!();
redis.disconnect();
