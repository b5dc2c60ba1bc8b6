/** One number per round, told as its middle and its ends. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantileOfSorted(sorted, 0.5), min: sorted[0] ?? NaN, max: sorted.at(-1) ?? NaN };
}

/** Round by round, so that what slowed one round slows both sides of its ratio. */
export function ratioSpread(values: readonly number[], references: readonly number[]): Spread {
  return spreadOf(values.map((value, round) => value / (references[round] ?? NaN)));
}

export function quantile(values: readonly number[], q: number): number {
  return quantileOfSorted(
    [...values].sort((a, b) => a - b),
    q,
  );
}

export function quantileOfSorted(sorted: ArrayLike<number>, q: number): number {
  if (sorted.length === 0) return NaN;
  const position = (sorted.length - 1) * q;
  const below = Math.floor(position);
  const lower = sorted[below] ?? NaN;
  const upper = sorted[Math.min(below + 1, sorted.length - 1)] ?? NaN;
  return lower + (upper - lower) * (position - below);
}

export interface Interval {
  readonly startedAtMs: number;
  readonly endedAtMs: number;
}

/** The highest number of intervals that run at one moment. */
export function mostAtOnce(intervals: readonly Interval[]): number {
  const edges = intervals
    .flatMap(({ startedAtMs, endedAtMs }) => [
      { atMs: startedAtMs, change: 1 },
      { atMs: endedAtMs, change: -1 },
    ])
    .sort((a, b) => a.atMs - b.atMs || a.change - b.change);
  let running = 0;
  let most = 0;
  for (const { change } of edges) {
    running += change;
    most = Math.max(most, running);
  }
  return most;
}

/** The highest number of moments in any window of this length. */
export function mostWithin(momentsMs: readonly number[], windowMs: number): number {
  const sorted = [...momentsMs].sort((a, b) => a - b);
  let first = 0;
  let most = 0;
  sorted.forEach((atMs, last) => {
    while (atMs - sorted[first]! >= windowMs) first++;
    most = Math.max(most, last - first + 1);
  });
  return most;
}
