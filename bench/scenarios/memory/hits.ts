import { bareGet } from "../../contenders/bare-get.js";
import { bareMap } from "../../contenders/bare-map.js";
import { memoryTiers } from "../../contenders/index.js";
import type { Contender } from "../../contender.js";
import { type Fleet, startFleets } from "../../harness/fleet.js";
import { showProgress } from "../../harness/progress.js";
import { interleave } from "../../harness/rounds.js";
import { type Spread, ratioSpread, spreadOf } from "../../harness/statistics.js";
import { type Table, showNumber, showRounds, showSpread } from "../../harness/table.js";
import type { RunContext } from "../../scenario.js";

const TTL_SECONDS = 3600;
const SLICE_MS = 300;
// Once for each contender and case, until the code has been compiled for it.
const WARM_UP_MS = 500;
// Of cachefence: as long as a lease, so that each copy is renewed once in it.
const LEASE_MS = 1_000;

interface HitCase {
  readonly name: string;
  readonly valueBytes: number;
  readonly keys: number;
  readonly callers: number;
}

const cases: readonly HitCase[] = [
  { name: "2,000 keys, 64 callers", valueBytes: 300, keys: 2_000, callers: 64 },
  { name: "one hot key, 64 callers", valueBytes: 300, keys: 1, callers: 64 },
  { name: "one hot key of 30 kB, 64 callers", valueBytes: 30_000, keys: 1, callers: 64 },
  { name: "2,000 keys, one caller", valueBytes: 300, keys: 2_000, callers: 1 },
];

export interface MemoryHitsRow {
  readonly contender: string;
  readonly hitsPerSecond: Spread;
  /** Against ioredis' GET and JSON.parse, round by round. */
  readonly toGet: Spread;
}

export interface MemoryHitsOutcome {
  readonly rounds: number;
  readonly cases: readonly { readonly name: string; readonly rows: readonly MemoryHitsRow[] }[];
}

/** The limit, the unit, and what is measured between them. */
export const hitContenders: readonly Contender[] = [bareMap, bareGet, ...memoryTiers];

export async function measureMemoryHits(context: RunContext): Promise<MemoryHitsOutcome> {
  const rounds = context.rounds ?? (context.short ? 1 : 3);
  const contenders = hitContenders.filter((contender) => context.contenders.includes(contender));
  showProgress("starting a process for each contender");
  const fleets = await startFleets(contenders, 1, context.url);
  const outcomes: MemoryHitsOutcome["cases"][number][] = [];
  try {
    for (const hitCase of cases.filter(({ name }) => context.includesCase(name))) {
      const slices = new Map<Contender, number[]>(contenders.map((contender) => [contender, []]));
      for (const contender of contenders) await fillKeys(contender, fleets.get(contender)!, hitCase);
      await interleave(contenders, rounds, async (contender, round) => {
        showProgress(`${hitCase.name}: round ${round + 1} of ${rounds}, ${contender.name}`);
        slices.get(contender)!.push(await readOnce(contender, fleets.get(contender)!, hitCase));
      });
      const rows = contenders.map((contender): MemoryHitsRow => ({
        contender: contender.name,
        hitsPerSecond: spreadOf(slices.get(contender)!),
        toGet: ratioSpread(slices.get(contender)!, slices.get(bareGet) ?? []),
      }));
      outcomes.push({ name: hitCase.name, rows });
    }
  } finally {
    await Promise.all([...fleets.values()].map((fleet) => fleet.stop()));
  }
  return { rounds, cases: outcomes };
}

function keysOf(contender: Contender, { valueBytes, keys }: HitCase): string[] {
  const prefix = `memory:${contender.name.replaceAll(" ", "")}:${valueBytes}:`;
  return Array.from({ length: keys }, (_, i) => `${prefix}${i}`);
}

async function fillKeys(contender: Contender, fleet: Fleet, hitCase: HitCase): Promise<void> {
  const { valueBytes, callers } = hitCase;
  const keys = keysOf(contender, hitCase);
  await fleet.run("fill", { keys, valueBytes, ttlSeconds: TTL_SECONDS });
  await fleet.run("readTurns", { keys, callers, ttlSeconds: TTL_SECONDS, durationMs: WARM_UP_MS });
}

/** Hits a second of one slice. */
async function readOnce(contender: Contender, fleet: Fleet, hitCase: HitCase): Promise<number> {
  const input = { keys: keysOf(contender, hitCase), callers: hitCase.callers, ttlSeconds: TTL_SECONDS };
  const isLeased = contender.name.startsWith("cachefence,");
  // Since its last turn its copies' leases have ended.
  await fleet.runIn(0, "holdCopies", { keys: input.keys, ttlSeconds: TTL_SECONDS });
  const { hits, elapsedMs } = await fleet.runIn(0, "readTurns", {
    ...input,
    durationMs: isLeased ? LEASE_MS : SLICE_MS,
  });
  return (hits / elapsedMs) * 1000;
}

export function tableOfHits({ rounds, cases: outcomes }: MemoryHitsOutcome): Table[] {
  if (outcomes.length === 0) return [];
  const contenders = outcomes[0]!.rows.map(({ contender }) => contender);
  return [
    {
      title: `Hits from memory, a second and against GET (${showRounds(rounds)})`,
      columns: ["contender", ...outcomes.flatMap(({ name }) => [name, "x GET"])],
      rows: contenders.map((contender, index) => [
        contender,
        ...outcomes.flatMap(({ rows }) => {
          const row = rows[index]!;
          return [showNumber(row.hitsPerSecond.median), showSpread(row.toGet, row.toGet.median < 10 ? 1 : 0)];
        }),
      ]),
      notes: [
        "300 B each where nothing else is said. Map: the loop alone, the limit of what can be measured here. The slices of",
        "cachefence are as long as a lease, so each copy is renewed in them. lru-cache, async-cache-dedupe and cachefence",
        "frozen hand one object to all callers; the others make one for each.",
      ],
    },
  ];
}
