import type { KeyLoad } from "./key-load.js";
import { type KeySummary, runKey } from "./key-run.js";
import type { Random } from "./random.js";
import { zipfShares } from "./zipf.js";

export interface ZipfSettings {
  readonly keys: number;
  readonly exponent: number;
  /** Of all keys together. */
  readonly totalRatePerSecond: number;
  /** Everything else that the keys have in common. */
  readonly load: Omit<KeyLoad, "ratePerSecond">;
  readonly sampledKeysPerBand: number;
  readonly cyclesPerKey: number;
}

/** The keys of one decade of ranks. Rates and shares are those of the band as a whole, per second where they say so. */
export interface ZipfBand {
  readonly firstRank: number;
  readonly lastRank: number;
  readonly requestShare: number;
  readonly typicalRatePerSecond: number;
  /** rate * beta * delta of the band's middle key: what decides whether XFetch can help. */
  readonly typicalEarlyRequests: number;
  readonly hardMissShare: number;
  /** Share of the band's requests that waited. */
  readonly waitShare: number;
  readonly recomputesPerSecond: number;
  readonly rebuildCommandsPerSecond: number;
  readonly messagesPerSecond: number;
}

/** Plays a spread of keys from each decade of ranks; each stands for its neighbours. */
export function runZipfBands(random: Random, settings: ZipfSettings): ZipfBand[] {
  const shares = zipfShares(settings.keys, settings.exponent);
  const bands: ZipfBand[] = [];
  for (let first = 0, end = 10; first < settings.keys; first = end, end *= 10) {
    bands.push(runBand(random, settings, shares, first, Math.min(end, settings.keys)));
  }
  return bands;
}

function runBand(random: Random, settings: ZipfSettings, shares: Float64Array, first: number, end: number): ZipfBand {
  const count = end - first;
  const sampled = Math.min(settings.sampledKeysPerBand, count);
  const rateOf = (place: number) => (shares[place] ?? 0) * settings.totalRatePerSecond;
  const sums = { rate: 0, cycles: 0, hardMisses: 0, waits: 0, recomputes: 0, commands: 0, messages: 0 };
  for (let sample = 0; sample < sampled; sample++) {
    const ratePerSecond = rateOf(first + Math.floor(((sample + 0.5) * count) / sampled));
    const summary: KeySummary = runKey(
      random,
      { ...settings.load, ratePerSecond },
      "cachefence",
      settings.cyclesPerKey,
    );
    const cyclesPerSecond = 1 / summary.cycleSeconds;
    sums.rate += ratePerSecond;
    sums.cycles += cyclesPerSecond;
    sums.hardMisses += cyclesPerSecond * summary.hardMissShare;
    sums.waits += cyclesPerSecond * summary.waits;
    sums.recomputes += cyclesPerSecond * summary.recomputes;
    sums.commands += cyclesPerSecond * summary.commands;
    sums.messages += cyclesPerSecond * summary.messages;
  }
  const typicalRatePerSecond = rateOf(Math.floor((first + end - 1) / 2));
  const keysPerSample = count / sampled;
  return {
    firstRank: first + 1,
    lastRank: end,
    requestShare: shares.subarray(first, end).reduce((sum, share) => sum + share, 0),
    typicalRatePerSecond,
    typicalEarlyRequests: typicalRatePerSecond * settings.load.beta * settings.load.deltaSeconds,
    hardMissShare: sums.hardMisses / sums.cycles,
    waitShare: sums.waits / sums.rate,
    recomputesPerSecond: sums.recomputes * keysPerSample,
    rebuildCommandsPerSecond: sums.commands * keysPerSample,
    messagesPerSecond: sums.messages * keysPerSample,
  };
}
