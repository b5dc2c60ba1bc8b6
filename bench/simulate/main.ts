/**
 * Simulates XFetch and the rebuild lock at sizes that no bench machine holds.
 *
 *     npm run simulate [-- --short] [-- --seed=1]
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import * as costModel from "./cost-model.js";
import type { ExperimentContext } from "./experiment.js";
import { compareCopies, playCopies, tabulateFences } from "./experiment-copies.js";
import { compareWithClosedForms } from "./experiment-closed-forms.js";
import { playFleetBursts } from "./experiment-fleet-burst.js";
import { growFleet } from "./experiment-fleet-growth.js";
import { playLoadGrid } from "./experiment-load-grid.js";
import { compareWithMeasured } from "./experiment-measured.js";
import { tabulatePrimaryCapacity } from "./experiment-primary-capacity.js";
import { playShortTtls } from "./experiment-short-ttl.js";
import { playSlowRecomputes } from "./experiment-slow-recompute.js";
import { playStaleServes } from "./experiment-stale-serves.js";
import { playZipfKeys } from "./experiment-zipf.js";
import { Random } from "./random.js";
import type { SimulationResults } from "./results.js";

const { values } = parseArgs({
  options: { short: { type: "boolean", default: false }, seed: { type: "string", default: "1" } },
});
const seed = Number(values.seed);
if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff) {
  throw new RangeError(`Expected --seed to be an integer from 0 to 4294967295, got ${values.seed}`);
}
const isShort = values.short;
const startedMs = performance.now();
const tookSeconds = (): number => (performance.now() - startedMs) / 1000;

let parts = 0;
function play<Rows>(title: string, experiment: (context: ExperimentContext) => Rows): Rows {
  parts++;
  process.stderr.write(`[${tookSeconds().toFixed(1)} s] part ${String(parts)} of 13: ${title}\n`);
  console.log(`\n## ${title}\n`);
  // A stream of its own, so that a change to one part leaves the numbers of the others as they were.
  const random = new Random((seed + parts * 0x9e3779b1) >>> 0);
  return experiment({ random, isShort, print: (text) => console.log(text) });
}

console.log(`seed ${String(seed)}${isShort ? ", short form" : ""}; the same seed gives the same numbers`);
const played = {
  closedForms: play("Theory and simulation (r requests/s, b beta, d recompute)", compareWithClosedForms),
  loadGrid: play("Who waits, and how much is recomputed", playLoadGrid),
  fleetGrowth: play("A rebuild as the fleet grows: recompute 700 ms, 20 requests/s a process", growFleet),
  fleetBursts: play("A cold key that the whole fleet asks for at once", playFleetBursts),
  slowRecomputes: play("Cold rebuilds longer than waitForLock", playSlowRecomputes),
  shortTtls: play("What early refresh takes of the ttl (beta 1)", playShortTtls),
  staleServes: play("What staleFor does for an entry that nobody refreshed", playStaleServes),
  zipf: play("Hot and cool keys", playZipfKeys),
  primaryCapacity: play("What one primary carries, busy for 70% of its time", tabulatePrimaryCapacity),
  measured: play("Measured and simulated: 50 workers over 280 s, ttl 20 s, recompute 500 ms", compareWithMeasured),
  copies: play("A hot key with copies in memory: 1,000 requests/s a process, lease 1 s", playCopies),
  fences: play("Fences that one primary carries, busy for 70% of its time", tabulateFences),
  copyReads: play("Measured and simulated: copies of one hot key", compareCopies),
};
const results: SimulationResults = {
  ...{ format: 2, seed, isShort, tookSeconds: tookSeconds(), costModel: { ...costModel } },
  ...played,
};

// A short run leaves the results of a full one as they are.
const file = isShort ? "bench/results/short/simulate.json" : "bench/results/simulate.json";
const path = fileURLToPath(new URL(`../../${file}`, import.meta.url));
mkdirSync(dirname(path), { recursive: true });
writeFileSync(path, `${JSON.stringify(results, null, 1)}\n`);
console.log(`\n${file} written after ${tookSeconds().toFixed(1)} s`);
