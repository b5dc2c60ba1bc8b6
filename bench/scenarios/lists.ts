import { bareHmget } from "../contenders/bare-hmget.js";
import { barePipeline } from "../contenders/bare-pipeline.js";
import { bentocache } from "../contenders/bentocache.js";
import { cacheable } from "../contenders/cacheable.js";
import { cachefence } from "../contenders/cachefence.js";
import { cachefenceMemory } from "../contenders/cachefence-memory.js";
import type { Contender } from "../contender.js";
import { countCommands, totalOf } from "../harness/command-counter.js";
import { type Fleet, startFleets } from "../harness/fleet.js";
import { showProgress } from "../harness/progress.js";
import { interleave } from "../harness/rounds.js";
import { type Spread, quantile, ratioSpread, spreadOf } from "../harness/statistics.js";
import { type Table, showNumber, showRounds, showSpread } from "../harness/table.js";
import type { ReadListsOutput } from "../jobs/read-lists.js";
import type { RunContext, Scenario } from "../scenario.js";

const TTL_SECONDS = 3600;
const ITEMS = 100;
const RECOMPUTE_MS = 20;
const WARM_LISTS_A_ROUND = 40;
const COLD_LISTS_A_ROUND = 3;

interface Way {
  readonly name: string;
  readonly contender: Contender;
  readonly asList: boolean;
}

const ways: readonly Way[] = [
  { name: "pipeline of GETs", contender: barePipeline, asList: true },
  { name: "pipeline of HMGETs", contender: bareHmget, asList: true },
  { name: "bentocache: 100 getOrSet", contender: bentocache, asList: false },
  { name: "cacheable: getMany, setMany", contender: cacheable, asList: true },
  { name: "cachefence: 100 getOrSet", contender: cachefence, asList: false },
  { name: "cachefence: getOrSetMany", contender: cachefence, asList: true },
  { name: "from memory: 100 getOrSet", contender: cachefenceMemory, asList: false },
  { name: "from memory: getOrSetMany", contender: cachefenceMemory, asList: true },
];
const reference = "cachefence: 100 getOrSet";

interface Cost {
  /** Of one list; the middle of the round's. */
  readonly latencyMs: Spread;
  readonly writes: Spread;
  readonly commands: number;
  readonly recomputeCalls: number;
}

export interface ListsRow {
  readonly way: string;
  readonly warm: Cost;
  /** How many times as fast as a call for each item, round by round. */
  readonly toCalls: Spread;
  readonly cold: Cost;
}

export interface ListsOutcome {
  readonly rounds: number;
  readonly items: number;
  readonly recomputeMs: number;
  readonly rows: readonly ListsRow[];
}

/** A page of a hundred items, all there or all missing. */
export const lists: Scenario<ListsOutcome> = {
  name: "lists",
  summary: "a list of 100 items, warm and cold: latency, commands, writes, calls of recompute",
  contenders: [...new Set(ways.map(({ contender }) => contender))],
  run,
  tables,
};

interface Measured {
  readonly latencyMs: number[];
  readonly writes: number[];
  commands: number;
  recomputeCalls: number;
}

async function run({ url, short, contenders, ...context }: RunContext): Promise<ListsOutcome> {
  const rounds = context.rounds ?? (short ? 3 : 10);
  const chosen = ways.filter(({ contender }) => contenders.includes(contender));
  const fleets = await startFleets(contenders, 1, url);
  const empty = (): Measured => ({ latencyMs: [], writes: [], commands: 0, recomputeCalls: 0 });
  const warm = new Map(chosen.map((way) => [way.name, empty()]));
  const cold = new Map(chosen.map((way) => [way.name, empty()]));
  try {
    for (const way of chosen) {
      showProgress(`lists: counting the commands of ${way.name}`);
      const fleet = fleets.get(way.contender)!;
      // The first brings what connections cost, and fills the keys that are then warm. Copies are made at the second read that
      // comes when the connection for messages is there.
      const list = listOf(way, "warm");
      await readLists(fleet, way, [list, list, list]);
      const ofCold = await countCommands(url, () => readLists(fleet, way, [listOf(way, "counted")]));
      const ofWarm = await countCommands(url, () => readLists(fleet, way, [listOf(way, "warm")]));
      Object.assign(cold.get(way.name)!, {
        commands: totalOf(ofCold.sent),
        recomputeCalls: ofCold.result.recomputeCalls,
      });
      Object.assign(warm.get(way.name)!, {
        commands: totalOf(ofWarm.sent),
        recomputeCalls: ofWarm.result.recomputeCalls,
      });
    }
    await interleave(chosen, rounds, async (way, round) => {
      showProgress(`lists: round ${round + 1} of ${rounds}, ${way.name}`);
      const fleet = fleets.get(way.contender)!;
      const warmLists = Array.from({ length: WARM_LISTS_A_ROUND }, () => listOf(way, "warm"));
      const coldLists = Array.from({ length: COLD_LISTS_A_ROUND }, (_, i) => listOf(way, `cold:${round}:${i}`));
      note(warm.get(way.name)!, await readLists(fleet, way, warmLists));
      note(cold.get(way.name)!, await readLists(fleet, way, coldLists));
    });
  } finally {
    await Promise.all([...fleets.values()].map((fleet) => fleet.stop()));
  }
  const callsMs = warm.get(reference)?.latencyMs ?? [];
  return {
    ...{ rounds, items: ITEMS, recomputeMs: RECOMPUTE_MS },
    rows: chosen.map(({ name }) => ({
      way: name,
      warm: costOf(warm.get(name)!),
      toCalls: ratioSpread(callsMs, warm.get(name)!.latencyMs),
      cold: costOf(cold.get(name)!),
    })),
  };
}

function listOf({ name }: Way, list: string): string[] {
  return Array.from({ length: ITEMS }, (_, i) => `lists:${name.replaceAll(" ", "")}:${list}:${i}`);
}

async function readLists(fleet: Fleet, { asList }: Way, keys: readonly string[][]): Promise<ReadListsOutput> {
  return fleet.runIn(0, "readLists", { lists: keys, recomputeMs: RECOMPUTE_MS, ttlSeconds: TTL_SECONDS, asList });
}

function note(measured: Measured, { latenciesMs, writes }: ReadListsOutput): void {
  measured.latencyMs.push(quantile(latenciesMs, 0.5));
  measured.writes.push(writes / latenciesMs.length);
}

function costOf({ latencyMs, writes, commands, recomputeCalls }: Measured): Cost {
  return { latencyMs: spreadOf(latencyMs), writes: spreadOf(writes), commands, recomputeCalls };
}

function tables({ rounds, items, recomputeMs, rows }: ListsOutcome): Table[] {
  return [
    {
      title: `Lists of ${items} items, all warm or all cold (${showRounds(rounds)})`,
      columns: [
        "way",
        "warm ms",
        "x 100 getOrSet",
        "commands",
        "writes",
        "cold ms",
        "commands",
        "writes",
        "calls of recompute",
      ],
      rows: rows.map(({ way, warm, toCalls, cold }) => [
        way,
        showSpread(warm.latencyMs, 2),
        showSpread(toCalls, 2),
        showNumber(warm.commands),
        showNumber(warm.writes.median, 1),
        showSpread(cold.latencyMs, 1),
        showNumber(cold.commands),
        showNumber(cold.writes.median, 1),
        showNumber(cold.recomputeCalls),
      ]),
      notes: [
        `One process, one list after the other, 300 B an item; recompute takes ${recomputeMs} ms, of one item or of many. x 100`,
        "getOrSet: how many times as fast as cachefence with a call for each item in one Promise.all. Writes: buffers handed to",
        "the system for a list. bentocache has no call for a list; the pipelines and cacheable have no lock: what two processes",
        "miss at once both recompute. From memory: cachefence with memory and an object of its own for each caller.",
      ],
    },
  ];
}
