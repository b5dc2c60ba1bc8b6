/**
 * When a stream of requests next meets an entry that one of them refreshes.
 *
 * Requests come as a Poisson process of `ratePerSecond`. One that comes x seconds before expiry refreshes when
 * `-delta * beta * ln(u) >= x`, which has probability `exp(-x / (beta * delta))`; past expiry every one does. Thinning a
 * Poisson process leaves a Poisson process, so the refreshes have the hazard `rate * min(1, exp(-x / (beta * delta)))`,
 * and its integral can be inverted: no request that changes nothing need be drawn.
 *
 * Times are seconds after expiry: negative before it.
 */
export interface RefreshHazard {
  readonly ratePerSecond: number;
  /** `beta * delta`: 0 turns early refresh off. */
  readonly earlySeconds: number;
}

/** The expected number of refreshing requests up to `atSeconds`, since for ever. */
export function cumulativeHazard({ ratePerSecond, earlySeconds }: RefreshHazard, atSeconds: number): number {
  if (atSeconds >= 0) return ratePerSecond * (earlySeconds + atSeconds);
  return earlySeconds === 0 ? 0 : ratePerSecond * earlySeconds * Math.exp(atSeconds / earlySeconds);
}

/** The moment at which the cumulative hazard reaches `hazard`. */
export function momentOfHazard({ ratePerSecond, earlySeconds }: RefreshHazard, hazard: number): number {
  const share = hazard / ratePerSecond;
  return share >= earlySeconds ? share - earlySeconds : earlySeconds * Math.log(share / earlySeconds);
}

/** The expected number of refreshing requests between two moments. */
export function hazardBetween(hazard: RefreshHazard, fromSeconds: number, toSeconds: number): number {
  return toSeconds <= fromSeconds ? 0 : cumulativeHazard(hazard, toSeconds) - cumulativeHazard(hazard, fromSeconds);
}
