import type { Random } from "./random.js";

/**
 * The first request of each process in a window: its moment, for those processes that have one.
 * `ratePerSecond` is that of one process.
 */
export function sampleFirstArrivals(
  random: Random,
  processes: number,
  ratePerSecond: number,
  windowSeconds: number,
): number[] {
  const expected = ratePerSecond * windowSeconds;
  const chance = -Math.expm1(-expected);
  const arrivals: number[] = [];
  if (chance <= 0) return arrivals;
  // Processes without a request are leapt over, so that a cool key in a large fleet costs little.
  for (let process = leap(random, expected); process < processes; process += 1 + leap(random, expected)) {
    arrivals.push(-Math.log1p(-random.uniform() * chance) / ratePerSecond);
  }
  return arrivals;
}

// A process has no request with probability e^-expected, so the run of such processes is geometric.
function leap(random: Random, expected: number): number {
  return Math.floor(random.exponential() / expected);
}
