/**
 * What theory says of one key under XFetch, to hold the simulation against.
 *
 * Common ground: requests are a Poisson process of constant rate r; every recompute takes exactly delta; a recompute that
 * starts is visible to readers delta later; the ttl is long, so that r * b * exp(-ttl / b), b = beta * delta, is next to
 * nothing. Then the expected number of refreshing requests up to x seconds before expiry is r * b * exp(-x / b), and at
 * the first of them this number is exponentially distributed with mean 1. All else follows from that. The `exact`
 * functions hold at every rate; the others say which limit they are.
 */
import { cumulativeHazard, momentOfHazard, type RefreshHazard } from "./refresh-hazard.js";

const EULER_GAMMA = 0.5772156649015329;

/** The chance that no refresh starts before expiry: exp(-r * b). Exact under the common ground. */
export function hardMissChance({ ratePerSecond, earlySeconds }: RefreshHazard): number {
  return Math.exp(-ratePerSecond * earlySeconds);
}

/**
 * Mean distance of the first refresh before expiry: b * (ln(r * b) + 0.5772), the mean of a Gumbel distribution.
 * The limit of large r * b: it still counts refreshes "before expiry" that come after it, as negative distances.
 */
export function meanFirstRefreshSeconds({ ratePerSecond, earlySeconds }: RefreshHazard): number {
  return earlySeconds * (Math.log(ratePerSecond * earlySeconds) + EULER_GAMMA);
}

/** The same at every rate, a cycle without an early refresh counting as 0: b * Ein(r * b). */
export function exactMeanFirstRefreshSeconds({ ratePerSecond, earlySeconds }: RefreshHazard): number {
  return earlySeconds * entireExponentialIntegral(ratePerSecond * earlySeconds);
}

/**
 * Recomputes per cycle when nothing holds the readers back: e^(1 / beta), geometrically distributed with p = e^(-1 / beta).
 * The limit of large r * b * e^(-1 / beta), where the first recompute is done before the entry expires.
 */
export function uncoordinatedRecomputes(beta: number): number {
  return Math.exp(1 / beta);
}

/** The same at every rate; also for beta 0, where it is 1 + r * delta: the stampede of naive cache-aside. */
export function exactUncoordinatedRecomputes(hazard: RefreshHazard, deltaSeconds: number): number {
  return meanOverFirstRefresh(hazard, deltaSeconds, (firstSeconds, hazardAtFirst) => {
    return 1 + cumulativeHazard(hazard, firstSeconds + deltaSeconds) - hazardAtFirst;
  });
}

/**
 * The chance that some request finds the entry expired, with one rebuild at a time: no refresh started before expiry, or
 * one started less than delta before it and a request came in the gap. Always more than `hardMissChance`; for large
 * r * b the gap is what counts, and the chance falls as exp(-r * b * e^(-1 / beta)).
 */
export function exactFoundExpiredChance(hazard: RefreshHazard, deltaSeconds: number): number {
  return meanOverFirstRefresh(hazard, deltaSeconds, (firstSeconds) => {
    if (firstSeconds >= 0) return 1;
    const gapSeconds = firstSeconds + deltaSeconds;
    return gapSeconds <= 0 ? 0 : -Math.expm1(-hazard.ratePerSecond * gapSeconds);
  });
}

/** The mean of a function of the first refresh, by Simpson's rule on each stretch between the kinks of the hazard. */
function meanOverFirstRefresh(
  hazard: RefreshHazard,
  deltaSeconds: number,
  valueOf: (firstSeconds: number, hazardAtFirst: number) => number,
): number {
  const endHazard = 40;
  const kinks = [0, cumulativeHazard(hazard, -deltaSeconds), cumulativeHazard(hazard, 0), endHazard];
  let mean = 0;
  for (let stretch = 0; stretch < 3; stretch++) {
    const from = Math.min(kinks[stretch] ?? 0, endHazard);
    const to = Math.min(kinks[stretch + 1] ?? 0, endHazard);
    if (to <= from) continue;
    const steps = 4000;
    const width = (to - from) / steps;
    let sum = 0;
    for (let step = 0; step <= steps; step++) {
      // Inside the stretch, also at its ends: the value may jump at a kink.
      const at = Math.min(Math.max(from + step * width, from + width * 1e-6), to - width * 1e-6);
      const weight = step === 0 || step === steps ? 1 : step % 2 === 1 ? 4 : 2;
      sum += weight * Math.exp(-at) * valueOf(momentOfHazard(hazard, at), at);
    }
    mean += (sum * width) / 3;
  }
  return mean;
}

/** Ein(z): the integral of (1 - e^-v) / v from 0 to z, which for large z is ln(z) + 0.5772. */
export function entireExponentialIntegral(z: number): number {
  if (z > 40) return Math.log(z) + EULER_GAMMA;
  const steps = 4000;
  const width = z / steps;
  const integrand = (v: number) => (v === 0 ? 1 : -Math.expm1(-v) / v);
  let sum = integrand(0) + integrand(z);
  for (let step = 1; step < steps; step++) sum += (step % 2 === 1 ? 4 : 2) * integrand(step * width);
  return (sum * width) / 3;
}
