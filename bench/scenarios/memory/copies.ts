import { setTimeout as sleep } from "node:timers/promises";
import { cachefenceMemory } from "../../contenders/cachefence-memory.js";
import { machineMs } from "../../harness/clock.js";
import { countCommands, totalOf } from "../../harness/command-counter.js";
import { Fleet } from "../../harness/fleet.js";
import { showProgress } from "../../harness/progress.js";
import { type Table, showNumber } from "../../harness/table.js";
import type { RunContext } from "../../scenario.js";

const PROCESSES = 3;
const READ_PAUSE_MS = 2;
const RECOMPUTE_MS = 5;
const TTL_SECONDS = 60;
const SETTLE_MS = 500;
// A little more than the time for which a fenced key is read from Redis: two leases at most.
const AFTER_FENCE_MS = 2_500;

export interface CopiesOutcome {
  readonly processes: number;
  readonly seconds: number;
  readonly readsPerSecond: number;
  readonly commandsPerSecond: number;
  readonly secondsAfterFence: number;
  /** Of the whole fleet, from a fence on: itself, the confirmations, the rebuild, and reads until there are copies again. */
  readonly commandsAfterFence: number;
}

/** What a hot key with copies costs Redis, undisturbed and after a fence. Counted, so no contender is compared. */
export async function measureCopies({ url, short, contenders }: RunContext): Promise<CopiesOutcome | null> {
  if (!contenders.includes(cachefenceMemory)) return null;
  showProgress("memory: counting the commands for one hot key");
  const seconds = short ? 3 : 6;
  const key = "copies:hot";
  const fleet = await Fleet.start(cachefenceMemory, PROCESSES, url);
  try {
    const startedAtMs = machineMs();
    const input = { keys: [key], pauseMs: READ_PAUSE_MS, recomputeMs: RECOMPUTE_MS, ttlSeconds: TTL_SECONDS };
    const watching = fleet.run("watch", input);
    await sleep(SETTLE_MS);
    const steady = await countCommands(url, () => sleep(seconds * 1000));
    const fenced = await countCommands(url, async () => {
      await fleet.runIn(0, "invalidate", { keys: [key], together: false });
      await sleep(AFTER_FENCE_MS);
    });
    await fleet.run("endWatch", undefined);
    const watchedSeconds = (machineMs() - startedAtMs) / 1000;
    const reads = (await watching).reduce((sum, output) => sum + output.reads[0]!.readBeganAtMs.length, 0);
    return {
      processes: PROCESSES,
      seconds,
      readsPerSecond: reads / watchedSeconds,
      commandsPerSecond: totalOf(steady.sent) / seconds,
      secondsAfterFence: AFTER_FENCE_MS / 1000,
      commandsAfterFence: totalOf(fenced.sent),
    };
  } finally {
    await fleet.stop();
  }
}

export function tableOfCopies(copies: CopiesOutcome | null): Table[] {
  if (!copies) return [];
  return [
    {
      title: `One hot key with copies in ${copies.processes} processes of cachefence`,
      columns: ["reads/s", "commands/s", `in the ${copies.secondsAfterFence} s after a fence`],
      rows: [
        [
          showNumber(copies.readsPerSecond),
          showNumber(copies.commandsPerSecond, 1),
          `${showNumber(copies.commandsAfterFence)} commands`,
        ],
      ],
      notes: [
        "One command of each process for each lease. After a fence a key is read from Redis for one lease or two, so that a key",
        "which is fenced all the time costs its fences nothing.",
      ],
    },
  ];
}
