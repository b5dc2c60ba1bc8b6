// Everything at once, for minutes, on a server of its own: a fleet with copies in memory that reads and fails, and two others
// that invalidate and set, while processes are killed and stopped, Redis is frozen, and connections are cut and delayed. At the
// end: no read older than a resolved fence, at least a third of them from memory, no lock, and memory, listeners, connections
// and timers as they were at the beginning.
//
//   npm run test:soak -- --minutes 5 --processes 4
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { CacheFence, type CacheFenceStats } from "cachefence";
import { Redis } from "ioredis";
import { startRedis } from "../support/redis-server.js";
import { startTcpProxy } from "../support/tcp-proxy.js";
import { Fleet } from "../support/fleet.js";
import type { LoggedRead, Residue } from "../support/service-messages.js";
import type { Service } from "../support/service.js";
import { type LoggedFence, staleReads } from "../support/history.js";

const { values: flags } = parseArgs({
  options: { minutes: { type: "string", default: "3" }, processes: { type: "string", default: "4" } },
});
const minutes = Number(flags.minutes);
const processes = Number(flags.processes);
if (!(minutes > 0) || !(processes >= 2) || !Number.isInteger(processes)) {
  console.error(
    "Usage: npm run test:soak -- [--minutes 3] [--processes 4]   (more than 0 minutes, at least 2 processes)",
  );
  process.exit(2);
}

const roundMs = 10_000;
const rounds = Math.max(3, Math.round((minutes * 60_000) / roundMs));
// Heaps breathe; a leak of one object per call would be many times this.
const heapAllowanceBytes = 12e6;

let passed = 0;
const failures: string[] = [];
function check(what: string, isSo: boolean, detail = ""): void {
  if (isSo) passed += 1;
  else {
    failures.push(`${what} ${detail}`);
    console.log(`FAILED ${what} ${detail}`);
  }
}

const server = await startRedis();
const proxy = await startTcpProxy(server.port);
const fleet = new Fleet(proxy.url);
const memory = { memory: "map", memoryLease: 0.3 } as const;
await fleet.open(processes, { waitForLock: 0.3, lockTimeout: 0.6, redisTimeout: 0.5, ...memory });
const fencers = [new Redis(server.url), new Redis(server.url)];
for (const client of [fleet.redis, ...fencers]) client.on("error", () => undefined);
const caches = fencers.map((client) => new CacheFence(client, { namespace: fleet.prefix, redisTimeout: 0.5 }));
const total = { reads: 0, fences: 0, failedFences: 0, kills: 0, stops: 0, freezes: 0, cuts: 0, delays: 0 };
const calm: Residue[][] = [];
const connections: number[] = [];
let memoryShare = 0;

async function residueOf(services: readonly Service[]): Promise<Residue[]> {
  return Promise.all(services.map((service) => service.ask("residue", {})));
}

/** One stroke of bad luck, over before it returns. The last service is the one that may die. */
async function misfortune(kind: number, services: readonly Service[]): Promise<void> {
  const unlucky = services[Math.floor(Math.random() * (services.length - 1))]!;
  switch (kind % 7) {
    case 0:
      total.stops += 1;
      unlucky.signal("SIGSTOP");
      await sleep(1_500);
      unlucky.signal("SIGCONT");
      return;
    case 1:
      total.freezes += 1;
      process.kill(server.pid, "SIGSTOP");
      await sleep(1_500);
      process.kill(server.pid, "SIGCONT");
      return;
    case 2:
      total.cuts += 1;
      await fleet.redis.client("KILL", "TYPE", "normal", "SKIPME", "yes");
      return;
    case 3:
      total.cuts += 1;
      await fleet.redis.client("KILL", "TYPE", "pubsub");
      return;
    case 4:
      total.delays += 1;
      proxy.delayReplies(30);
      await sleep(1_500);
      proxy.delayReplies(0);
      return;
    case 5:
      total.cuts += 1;
      proxy.cut();
      await sleep(500);
      proxy.heal();
      return;
    default:
      await fleet.redis.script("FLUSH");
  }
}

async function round(number: number): Promise<void> {
  const services = await fleet.revive();
  const keys = Array.from({ length: 20 }, (_, index) => `round-${number}-key-${index}`);
  const source = fleet.prefix + "source:";
  const victim = services.at(-1)!;
  const logs: Promise<LoggedRead[]>[] = services.map((service) =>
    service.ask("readUntilStopped", { plan: { keys, readers: 20, source } }),
  );
  const fences: LoggedFence[][] = keys.map(() => []);
  const endsMs = performance.now() + roundMs;
  const time = { isOver: false };
  // The fences of a key come from one of the two, in their order.
  const fencing = caches.map(async (cache, half) => {
    for (let turn = 0; !time.isOver; turn++) {
      const index = (turn * 2 + half) % keys.length;
      const key = keys[index]!;
      try {
        // Its own client is cut and frozen like any other: what did not resolve is no fence.
        const version = await fencers[half]!.incr(source + key);
        if (turn % 3 === 2) await cache.set(key, 60, version);
        else await cache.invalidate(key);
        fences[index]!.push({ version, resolvedNs: process.hrtime.bigint() });
        total.fences += 1;
      } catch {
        total.failedFences += 1;
      }
      await sleep(40 + Math.random() * 60);
    }
  });
  const failing = services.map((service, index) =>
    service.getOrSet("down", { kind: "throws", message: "down", afterMs: 20 + index }, 50),
  );
  await sleep(1_000);
  await misfortune(number, services);
  await Promise.all(
    failing.map(async (results) =>
      check(
        "a failing source fails its callers",
        (await results).every((one) => "error" in one),
      ),
    ),
  );
  await sleep(Math.max(0, endsMs - performance.now() - 2_000));
  if (number % 3 === 2) {
    total.kills += 1;
    await victim.kill();
  }
  await sleep(Math.max(0, endsMs - performance.now()));
  time.isOver = true;
  await Promise.all(fencing);
  const living = services.filter((service) => service.isRunning);
  await Promise.all(living.map((service) => service.ask("stopReading", {})));
  const reads = (await Promise.allSettled(logs)).flatMap((log) => (log.status === "fulfilled" ? log.value : []));
  total.reads += reads.length;
  const stale = staleReads(reads, fences);
  check("no read is older than a resolved fence", stale.length === 0, stale.slice(0, 3).join("; "));
  check(
    "every living reader came to its end",
    (await Promise.allSettled(logs)).filter((log) => log.status === "fulfilled").length === living.length,
  );
  await Promise.all(living.map((service) => service.ask("idle", {})));
  // A dead holder's lock ends with its lease.
  await sleep(1_000);
  const locks = await fleet.redis.keys(`${fleet.prefix}*:lock`);
  check("no lock is left", locks.length === 0, locks.join(" "));
  await fleet.checkAndClear(); // Throws if a rejection had no handler.
  // Of those that were never killed.
  const stats = await Promise.all(services.slice(0, -1).map((service) => service.ask("stats", {})));
  const sum = (count: (one: CacheFenceStats) => number) => stats.reduce((total, one) => total + count(one), 0);
  memoryShare =
    sum(({ memoryHits }) => memoryHits) / sum(({ hits, staleServes, misses }) => hits + staleServes + misses);
  calm.push(await residueOf(services.slice(0, -1)));
  connections.push(
    String(await fleet.redis.client("LIST"))
      .trim()
      .split("\n").length,
  );
}

try {
  for (let number = 0; number < rounds; number++) {
    await round(number);
    const heapMb = Math.max(...calm.at(-1)!.map(({ heapBytes }) => heapBytes)) / 1e6;
    console.log(
      `round ${number + 1} of ${rounds}: ${total.reads} reads, ${total.fences} fences (${total.failedFences} failed and known), ` +
        `${total.stops} stops, ${total.freezes} freezes, ${total.cuts} cuts, ${total.delays} delays, ${total.kills} kills; ` +
        `${(memoryShare * 100).toFixed(0)} % from memory, heap ${heapMb.toFixed(1)} MB, ${connections.at(-1)!} connections`,
    );
  }
  check("at least a third of the reads are from memory", memoryShare >= 1 / 3, String(memoryShare));
  // The first rounds warm up: code is compiled, connections are opened.
  const [before, after] = [calm[1]!, calm.at(-1)!];
  for (const [index, { listeners, timers, heapBytes }] of after.entries()) {
    const then = before[index]!;
    check("listeners are flat", listeners === then.listeners, `${then.listeners} -> ${listeners}`);
    check("timers are flat", timers <= then.timers, `${then.timers} -> ${timers}`);
    check("memory is flat", heapBytes - then.heapBytes < heapAllowanceBytes, `${then.heapBytes} -> ${heapBytes} bytes`);
  }
  check("connections are flat", connections.at(-1)! <= Math.max(...connections.slice(0, 3)), connections.join(" "));
} catch (error) {
  check(
    "the run ended without an error of its own",
    false,
    error instanceof Error ? String(error.stack) : String(error),
  );
} finally {
  await fleet.close();
  for (const client of fencers) client.disconnect();
  await proxy.stop();
  await server.stop();
}
console.log(`${passed} passed, ${failures.length} failed`);
process.exitCode = failures.length === 0 ? 0 : 1;
