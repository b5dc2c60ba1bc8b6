import { floors, libraries } from "../contenders/index.js";
import { naive } from "../contenders/naive.js";
import type { Contender } from "../contender.js";
import { type Fleet, startFleets } from "../harness/fleet.js";
import { showProgress } from "../harness/progress.js";
import { interleave } from "../harness/rounds.js";
import { ServerCpuMeter, spentBetween } from "../harness/server-cpu.js";
import { type Spread, ratioSpread, spreadOf } from "../harness/statistics.js";
import { type Table, showNumber, showRounds, showSpread } from "../harness/table.js";
import type { RunContext, Scenario } from "../scenario.js";

const TTL_SECONDS = 3600;

interface HitCase {
  readonly name: string;
  readonly valueBytes: number;
  readonly keys: number;
  readonly callers: number;
}

const KEYS = 2_000;
const CALLERS = 64;

const cases: readonly HitCase[] = [
  { label: "300 B", valueBytes: 300 },
  { label: "30 kB", valueBytes: 30_000 },
].flatMap(({ label, valueBytes }) => [
  { name: `distinct keys, ${label}`, valueBytes, keys: KEYS, callers: CALLERS },
  { name: `one hot key, ${label}`, valueBytes, keys: 1, callers: CALLERS },
  { name: `sequential, ${label}`, valueBytes, keys: KEYS, callers: 1 },
]);

/** Filling many keys with large values takes longer than reading them does. */
function casesOf(short: boolean): readonly HitCase[] {
  return cases.filter(({ valueBytes }) => !short || valueBytes <= 300);
}

interface Slice {
  readonly hitsPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly serverCommandUsPerHit: number;
  readonly serverProcessUsPerHit: number;
}

export interface HitPathRow {
  readonly contender: string;
  readonly hitsPerSecond: Spread;
  /** Against the first floor, round by round; likewise the other. */
  readonly toGet: Spread;
  readonly toHmget: Spread;
  readonly p50Us: Spread;
  readonly p99Us: Spread;
  readonly p99ToHmget: Spread;
  readonly serverCommandUsPerHit: Spread;
  readonly serverProcessUsPerHit: Spread;
}

export interface HitPathOutcome {
  readonly rounds: number;
  readonly sliceMs: number;
  readonly cases: readonly { readonly name: string; readonly rows: readonly HitPathRow[] }[];
}

/** How fast a filled key is read: 64 callers and one, many keys and one, small values and large. */
export const hitPath: Scenario<HitPathOutcome> = {
  name: "hit-path",
  summary: "reads of filled keys: throughput, p99, server CPU",
  // On a hit, naive cache-aside is the floor itself.
  contenders: [...floors, ...libraries.filter((library) => library !== naive)],
  run,
  tables,
};

async function run(context: RunContext): Promise<HitPathOutcome> {
  const { url, short, contenders } = context;
  // Many short slices rather than few long ones: what else the machine does then falls on all contenders alike.
  const rounds = context.rounds ?? (short ? 3 : 6);
  const sliceMs = short ? 60 : 120;
  const warmUpMs = short ? 60 : 300;
  const meter = new ServerCpuMeter(url);
  showProgress("starting a process for each contender");
  const fleets = await startFleets(contenders, 1, url);
  const outcomes: { name: string; rows: HitPathRow[] }[] = [];
  try {
    for (const hitCase of casesOf(short).filter(({ name }) => context.includesCase(name))) {
      const slices = new Map<Contender, Slice[]>();
      for (const contender of contenders) {
        showProgress(`${hitCase.name}: filling ${contender.name}`);
        slices.set(contender, []);
        await prepare(contender, fleets.get(contender)!, hitCase, warmUpMs);
      }
      await interleave(contenders, rounds, async (contender, round) => {
        showProgress(`${hitCase.name}: round ${round + 1} of ${rounds}, ${contender.name}`);
        slices.get(contender)!.push(await measure(contender, fleets.get(contender)!, hitCase, sliceMs, meter));
      });
      outcomes.push({ name: hitCase.name, rows: contenders.map((contender) => rowOf(contender, slices)) });
    }
  } finally {
    meter.close();
    await Promise.all([...fleets.values()].map((fleet) => fleet.stop()));
  }
  return { rounds, sliceMs, cases: outcomes };
}

/** Each contender has keys of its own, in its own format. */
function keysOf(contender: Contender, { valueBytes, keys }: HitCase): string[] {
  const prefix = `hit:${contender.name.replaceAll(" ", "")}:${valueBytes}:`;
  return Array.from({ length: keys }, (_, i) => `${prefix}${i}`);
}

async function prepare(contender: Contender, fleet: Fleet, hitCase: HitCase, durationMs: number): Promise<void> {
  const keys = keysOf(contender, hitCase);
  await fleet.run("fill", { keys, valueBytes: hitCase.valueBytes, ttlSeconds: TTL_SECONDS });
  await fleet.run("readHits", { keys, callers: hitCase.callers, durationMs, ttlSeconds: TTL_SECONDS });
}

async function measure(
  contender: Contender,
  fleet: Fleet,
  hitCase: HitCase,
  durationMs: number,
  meter: ServerCpuMeter,
): Promise<Slice> {
  const keys = keysOf(contender, hitCase);
  const before = await meter.read();
  const read = await fleet.runIn(0, "readHits", {
    keys,
    callers: hitCase.callers,
    durationMs,
    ttlSeconds: TTL_SECONDS,
  });
  const spent = spentBetween(before, await meter.read());
  return {
    hitsPerSecond: (read.hits / read.elapsedMs) * 1000,
    p50Us: read.p50Us,
    p99Us: read.p99Us,
    serverCommandUsPerHit: spent.commandsUs / read.hits,
    serverProcessUsPerHit: spent.processUs / read.hits,
  };
}

function rowOf(contender: Contender, slices: ReadonlyMap<Contender, readonly Slice[]>): HitPathRow {
  const [get, hmget] = floors;
  const numbers = (of: Contender | undefined, measure: keyof Slice): number[] =>
    ((of && slices.get(of)) ?? []).map((slice) => slice[measure]);
  const own = (measure: keyof Slice): number[] => numbers(contender, measure);
  return {
    contender: contender.name,
    hitsPerSecond: spreadOf(own("hitsPerSecond")),
    toGet: ratioSpread(own("hitsPerSecond"), numbers(get, "hitsPerSecond")),
    toHmget: ratioSpread(own("hitsPerSecond"), numbers(hmget, "hitsPerSecond")),
    p50Us: spreadOf(own("p50Us")),
    p99Us: spreadOf(own("p99Us")),
    p99ToHmget: ratioSpread(own("p99Us"), numbers(hmget, "p99Us")),
    serverCommandUsPerHit: spreadOf(own("serverCommandUsPerHit")),
    serverProcessUsPerHit: spreadOf(own("serverProcessUsPerHit")),
  };
}

function tables({ rounds, sliceMs, cases: outcomes }: HitPathOutcome): Table[] {
  return outcomes.map(({ name, rows }) => ({
    title: `Hit path: ${name} (${showRounds(rounds, ` of ${sliceMs} ms`)})`,
    columns: [
      "contender",
      "hits/s",
      "x GET",
      "x HMGET",
      "p50 us",
      "p99 us",
      "p99 x HMGET",
      "server us/hit",
      "server process us/hit",
    ],
    rows: rows.map((row) => [
      row.contender,
      showNumber(row.hitsPerSecond.median),
      showSpread(row.toGet, 2),
      showSpread(row.toHmget, 2),
      showNumber(row.p50Us.median),
      showNumber(row.p99Us.median),
      showSpread(row.p99ToHmget, 2),
      showNumber(row.serverCommandUsPerHit.median, 2),
      showNumber(row.serverProcessUsPerHit.median, 1),
    ]),
    notes: [
      "server us/hit: INFO commandstats (inside commands); server process: used_cpu of the whole server, sockets included.",
    ],
  }));
}
