import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { memoryTiers } from "../../contenders/index.js";
import type { Contender } from "../../contender.js";
import { Fleet } from "../../harness/fleet.js";
import { showProgress } from "../../harness/progress.js";
import { interleave } from "../../harness/rounds.js";
import { type Interval, quantile } from "../../harness/statistics.js";
import { type Table, showNumber } from "../../harness/table.js";
import type { WatchOutput } from "../../jobs/watch.js";
import type { RunContext } from "../../scenario.js";
import { type JudgedReads, findOutdatedReads } from "../outdated-reads.js";

const TTL_SECONDS = 60;
const PROCESSES = 3;
const RECOMPUTE_MS = 5;
const READ_PAUSE_MS = 2;
// Until every process holds a copy of every key.
const SETTLE_MS = 400;
// After the last invalidate, so that what is late is seen.
const TAIL_MS = 300;
const CALM_KEYS = 100;
const CALM_PAUSE_MS = 8;
const FROZEN_KEYS = 10;
// Longer than the lease of a copy: a fence has to do without the frozen process.
const FROZEN_MS = 1_500;
const LOST_KEYS = 10;
const LOST_PAUSE_MS = 120;
// A fence of cachefence waits for a lease where nobody confirms; others have long resolved.
const LONGEST_CUT_MS = 100;

export const disturbances = ["calm", "one frozen", "message lost"] as const;
export type Disturbance = (typeof disturbances)[number];

export interface InvalidatesCell {
  readonly reads: number;
  readonly outdated: number;
  readonly longestMs: number;
  readonly failures: number;
  readonly invalidates: number;
  readonly invalidateP50Ms: number;
  readonly invalidateP99Ms: number;
}

export interface InvalidatesRow {
  readonly contender: string;
  readonly promise: string;
  readonly by: Readonly<Record<Disturbance, InvalidatesCell>>;
}

export interface InvalidatesOutcome {
  readonly rounds: number;
  readonly processes: number;
  readonly rows: readonly InvalidatesRow[];
}

interface Observed {
  readonly watched: readonly WatchOutput[];
  /** In the order of the keys: each is invalidated once. */
  readonly invalidates: readonly Interval[];
}

/** Keys that three processes read all the time, each invalidated once; what is read after that has resolved. */
export async function measureInvalidates(context: RunContext): Promise<InvalidatesOutcome> {
  const { url } = context;
  const rounds = context.rounds ?? 1;
  const contenders = memoryTiers.filter((contender) => context.contenders.includes(contender));
  const observed = new Map(
    contenders.map((contender) => [
      contender,
      new Map<Disturbance, Observed[]>(disturbances.map((name) => [name, []])),
    ]),
  );
  await interleave(contenders, rounds, async (contender, round) => {
    showProgress(`reads after invalidates: round ${round + 1} of ${rounds}, ${contender.name}`);
    const fleet = await Fleet.start(contender, PROCESSES, url);
    try {
      for (const disturbance of disturbances) {
        const prefix = `fenced:${contender.name}:${disturbance}:${round}:`.replaceAll(" ", "");
        observed
          .get(contender)!
          .get(disturbance)!
          .push(await observe[disturbance](fleet, prefix, url));
      }
    } finally {
      await fleet.stop();
    }
  });
  const rows = contenders.map((contender): InvalidatesRow => {
    const cells = disturbances.map((name) => [name, cellOf(observed.get(contender)!.get(name)!)]);
    return {
      contender: contender.name,
      promise: contender.promise ?? "-",
      by: Object.fromEntries(cells) as InvalidatesRow["by"],
    };
  });
  return { rounds, processes: PROCESSES, rows };
}

const observe: Readonly<Record<Disturbance, (fleet: Fleet, prefix: string, url: string) => Promise<Observed>>> = {
  calm: (fleet, prefix) =>
    watchWhile(fleet, keysOf(prefix, CALM_KEYS), async (keys) => {
      const invalidates: Interval[] = [];
      for (const [index, key] of keys.entries()) {
        invalidates.push(...(await fleet.runIn(index % PROCESSES, "invalidate", { keys: [key], together: false })));
        await sleep(CALM_PAUSE_MS);
      }
      return invalidates;
    }),

  "one frozen": (fleet, prefix) =>
    watchWhile(fleet, keysOf(prefix, FROZEN_KEYS), async (keys) => {
      fleet.signal(PROCESSES - 1, "SIGSTOP");
      try {
        const [invalidates] = await Promise.all([
          fleet.runIn(0, "invalidate", { keys, together: true }),
          sleep(FROZEN_MS),
        ]);
        return invalidates;
      } finally {
        fleet.signal(PROCESSES - 1, "SIGCONT");
      }
    }),

  "message lost": async (fleet, prefix, url) => {
    const redis = new Redis(url);
    try {
      return await watchWhile(fleet, keysOf(prefix, LOST_KEYS), async (keys) => {
        const invalidates: Interval[] = [];
        for (const key of keys) {
          const cutting = cutSubscribers(redis);
          const invalidating = fleet.runIn(0, "invalidate", { keys: [key], together: false });
          await Promise.race([invalidating, sleep(LONGEST_CUT_MS)]);
          await cutting.end();
          invalidates.push(...(await invalidating));
          await sleep(LOST_PAUSE_MS);
        }
        return invalidates;
      });
    } finally {
      redis.disconnect();
    }
  },
};

/** Cuts whoever listens, again and again, for some clients are back in a millisecond: nobody hears what is told meanwhile. */
function cutSubscribers(redis: Redis): { end(): Promise<void> } {
  let isEnding = false;
  const cutting = (async () => {
    while (!isEnding) await redis.client("KILL", "TYPE", "pubsub");
  })();
  return {
    async end() {
      isEnding = true;
      await cutting;
    },
  };
}

function keysOf(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}${i}`);
}

async function watchWhile(
  fleet: Fleet,
  keys: readonly string[],
  disturb: (keys: readonly string[]) => Promise<Interval[]>,
): Promise<Observed> {
  const watching = fleet.run("watch", {
    keys,
    pauseMs: READ_PAUSE_MS,
    recomputeMs: RECOMPUTE_MS,
    ttlSeconds: TTL_SECONDS,
  });
  await sleep(SETTLE_MS);
  const invalidates = await disturb(keys);
  await sleep(TAIL_MS);
  await fleet.run("endWatch", undefined);
  return { watched: await watching, invalidates };
}

function cellOf(rounds: readonly Observed[]): InvalidatesCell {
  let [reads, outdated, longestMs, failures] = [0, 0, 0, 0];
  for (const { watched, invalidates } of rounds) {
    failures += watched.reduce((sum, output) => sum + output.failures, 0);
    for (const [index, invalidate] of invalidates.entries()) {
      const ofKey: JudgedReads[] = watched.map((output) => output.reads[index]!);
      const found = findOutdatedReads(ofKey, [invalidate]);
      reads += ofKey.reduce((sum, { readBeganAtMs }) => sum + readBeganAtMs.length, 0);
      outdated += found.count;
      longestMs = Math.max(longestMs, found.longestMs);
    }
  }
  const tookMs = rounds.flatMap(({ invalidates }) => invalidates.map((each) => each.endedAtMs - each.startedAtMs));
  return {
    ...{ reads, outdated, longestMs, failures },
    invalidates: tookMs.length,
    invalidateP50Ms: quantile(tookMs, 0.5),
    invalidateP99Ms: quantile(tookMs, 0.99),
  };
}

export function tablesOfInvalidates({ rounds, processes, rows }: InvalidatesOutcome): Table[] {
  return [
    {
      title: `Reads after a resolved invalidate, ${processes} processes (${rounds === 1 ? "1 round" : `${rounds} rounds together`})`,
      columns: [
        "contender",
        "promises",
        ...disturbances.flatMap((name) => [`${name}: outdated reads`, "longest ms"]),
        "invalidate p50 ms",
        "p99 ms",
        "one frozen: p99 ms",
        "failed",
      ],
      rows: rows.map(({ contender, promise, by }) => [
        contender,
        promise,
        ...disturbances.flatMap((name) => [
          `${showNumber(by[name].outdated)} of ${showNumber(by[name].reads)}`,
          by[name].outdated === 0 ? "-" : showNumber(by[name].longestMs),
        ]),
        showNumber(by.calm.invalidateP50Ms, 1),
        showNumber(by.calm.invalidateP99Ms, 1),
        showNumber(by["one frozen"].invalidateP99Ms),
        showNumber(disturbances.reduce((sum, name) => sum + by[name].failures, 0)),
      ]),
      notes: [
        "promises: of other processes, once an invalidate has resolved. Outdated: the read began after that, by the machine's",
        `clock at the opening of its turn of the event loop, and got a value from before. One frozen: SIGSTOP for ${FROZEN_MS / 1000} s,`,
        "with the invalidates in it. Message lost: CLIENT KILL TYPE pubsub all the while. Longest: from the resolution to the latest",
        `such read; each part is watched for ${TAIL_MS} ms more, so where a key stays old until its ttl, that is its end.`,
      ],
    },
  ];
}
