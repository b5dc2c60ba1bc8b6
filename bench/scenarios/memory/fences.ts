import { cachefenceMemory } from "../../contenders/cachefence-memory.js";
import { countCommands, totalOf } from "../../harness/command-counter.js";
import { Fleet } from "../../harness/fleet.js";
import { showProgress } from "../../harness/progress.js";
import { quantile } from "../../harness/statistics.js";
import { type Table, showNumber } from "../../harness/table.js";
import type { RunContext } from "../../scenario.js";

const TTL_SECONDS = 60;
const FENCES = 300;
// The first recalls of a process run code that nothing has warmed, and take some milliseconds.
const FENCES_TO_WARM_UP = 50;
const COUNTED_FENCES = 20;
// At once, for they all wait for the same lease.
const FENCES_WITHOUT_ANSWER = 20;
const HOLDERS = [0, 1, 3, 15];

export interface FenceRow {
  readonly holders: number;
  readonly one: "answers" | "frozen" | "killed";
  readonly fences: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly longestMs: number;
  /** Of the whole fleet for one fence; null where nobody counted. */
  readonly commands: number | null;
  readonly messages: number | null;
}

/** How long a fence of cachefence takes when so many other processes hold a copy. */
export async function measureFences({ url, short, ...context }: RunContext): Promise<FenceRow[]> {
  if (!context.contenders.includes(cachefenceMemory)) return [];
  const sizes = HOLDERS.filter((holders) => !short || holders <= 3);
  showProgress(`fences: starting ${Math.max(...sizes) + 1} processes`);
  // The first one fences, the others hold copies.
  const fleet = await Fleet.start(cachefenceMemory, Math.max(...sizes) + 1, url);
  const rows: FenceRow[] = [];
  try {
    // Each opens its mailbox with its first rebuild.
    await fleet.run("holdCopies", { keys: ["fence:first"], ttlSeconds: TTL_SECONDS });
    for (const holders of sizes) {
      showProgress(`fences: ${holders} holders`);
      await fence(fleet, holders, `fence:warm:${holders}`, FENCES_TO_WARM_UP);
      const tookMs = await fence(fleet, holders, `fence:${holders}`, FENCES);
      const counted = await countFences(fleet, holders, url);
      rows.push({ holders, one: "answers", ...summary(tookMs), ...counted });
    }
    for (const one of ["frozen", "killed"] as const) {
      showProgress(`fences: 3 holders, one ${one}`);
      const tookMs = await fenceWithoutAnswer(fleet, one);
      rows.push({ holders: 3, one, ...summary(tookMs), commands: null, messages: null });
    }
  } finally {
    await fleet.stop();
  }
  return rows;
}

function summary(tookMs: readonly number[]): Pick<FenceRow, "fences" | "p50Ms" | "p99Ms" | "longestMs"> {
  return {
    fences: tookMs.length,
    p50Ms: quantile(tookMs, 0.5),
    p99Ms: quantile(tookMs, 0.99),
    longestMs: quantile(tookMs, 1),
  };
}

function keysOf(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}:${i}`);
}

async function hold(fleet: Fleet, holders: number, keys: readonly string[]): Promise<void> {
  for (let holder = 1; holder <= holders; holder++) {
    await fleet.runIn(holder, "holdCopies", { keys, ttlSeconds: TTL_SECONDS });
  }
}

/** New keys each time: for a lease after a fence of a key nobody keeps a copy of it. */
async function fence(fleet: Fleet, holders: number, prefix: string, count: number): Promise<number[]> {
  const keys = keysOf(prefix, count);
  await hold(fleet, holders, keys);
  return durations(await fleet.runIn(0, "invalidate", { keys, together: false }));
}

async function countFences(
  fleet: Fleet,
  holders: number,
  url: string,
): Promise<Pick<FenceRow, "commands" | "messages">> {
  const keys = keysOf(`fence:counted:${holders}`, COUNTED_FENCES);
  await hold(fleet, holders, keys);
  const { sent, pushed } = await countCommands(url, () => fleet.runIn(0, "invalidate", { keys, together: false }));
  return { commands: totalOf(sent) / COUNTED_FENCES, messages: pushed / COUNTED_FENCES };
}

async function fenceWithoutAnswer(fleet: Fleet, one: "frozen" | "killed"): Promise<number[]> {
  const keys = keysOf(`fence:${one}`, FENCES_WITHOUT_ANSWER);
  await hold(fleet, 3, keys);
  fleet.signal(1, one === "frozen" ? "SIGSTOP" : "SIGKILL");
  const intervals = await fleet.runIn(0, "invalidate", { keys, together: true });
  if (one === "frozen") fleet.signal(1, "SIGCONT");
  return durations(intervals);
}

function durations(intervals: readonly { startedAtMs: number; endedAtMs: number }[]): number[] {
  return intervals.map(({ startedAtMs, endedAtMs }) => endedAtMs - startedAtMs);
}

export function tableOfFences(rows: readonly FenceRow[]): Table[] {
  if (rows.length === 0) return [];
  return [
    {
      title: "A fence of cachefence, by the processes that hold a copy",
      columns: ["holders", "fences", "p50 ms", "p99 ms", "longest ms", "commands", "messages"],
      rows: rows.map((row) => [
        row.one === "answers" ? showNumber(row.holders) : `${row.holders}, one ${row.one}`,
        showNumber(row.fences),
        showNumber(row.p50Ms, 1),
        showNumber(row.p99Ms, 1),
        showNumber(row.longestMs, 1),
        row.commands === null ? "-" : showNumber(row.commands, 1),
        row.messages === null ? "-" : showNumber(row.messages, 1),
      ]),
      notes: [
        "commands and messages: of the whole fleet for one fence. Where a holder does not answer, a fence waits for the rest of",
        "its lease (memoryLease, 1 s).",
      ],
    },
  ];
}
