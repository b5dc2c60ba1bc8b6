import { DEFAULT_LOAD } from "./default-load.js";
import type { ExperimentContext } from "./experiment.js";
import { number, percent, textTable } from "./text-table.js";
import { runZipfBands, type ZipfBand, type ZipfSettings } from "./zipf-bands.js";

export interface ZipfRow {
  readonly totalRatePerSecond: number;
  readonly deltaSeconds: number;
  readonly staleForSeconds: number;
  readonly earlyRefresh: "inline" | "background";
  readonly bands: readonly ZipfBand[];
}

const WAYS = [
  { staleForSeconds: 0, earlyRefresh: "inline" },
  { staleForSeconds: 600, earlyRefresh: "inline" },
  { staleForSeconds: 600, earlyRefresh: "background" },
] as const;

/** A hundred thousand keys of a Zipf distribution: which of them XFetch keeps warm, and what `staleFor` adds. */
export function playZipfKeys({ random, isShort, print }: ExperimentContext): ZipfRow[] {
  const rows: ZipfRow[] = [];
  for (const totalRatePerSecond of [1_000, 100_000]) {
    for (const deltaSeconds of [0.05, 1]) {
      for (const { staleForSeconds, earlyRefresh } of WAYS) {
        const settings: ZipfSettings = {
          ...{ keys: 100_000, exponent: 1, totalRatePerSecond },
          load: { ...DEFAULT_LOAD, deltaSeconds, staleForSeconds, earlyRefresh },
          sampledKeysPerBand: isShort ? 10 : 40,
          cyclesPerKey: isShort ? 200 : 1_000,
        };
        const bands = runZipfBands(random, settings);
        rows.push({ totalRatePerSecond, deltaSeconds, staleForSeconds, earlyRefresh, bands });
      }
    }
  }
  const flat = rows.flatMap((row) => row.bands.map((band) => ({ row, band })));
  for (const deltaSeconds of [0.05, 1]) {
    print(
      `\n100,000 keys, Zipf exponent 1, recompute ${number(deltaSeconds * 1e3)} ms, ttl 60 s, beta 1, 100 processes:\n`,
    );
    print(
      textTable(
        flat.filter(({ row }) => row.deltaSeconds === deltaSeconds),
        [
          { title: "all requests/s", text: ({ row }) => number(row.totalRatePerSecond) },
          { title: "staleFor", text: ({ row }) => `${String(row.staleForSeconds)} s, ${row.earlyRefresh}` },
          { title: "ranks", text: ({ band }) => `${number(band.firstRank)} to ${number(band.lastRank)}` },
          { title: "share of requests", text: ({ band }) => percent(band.requestShare) },
          { title: "r*b*d", text: ({ band }) => number(band.typicalEarlyRequests) },
          { title: "cycles with a hard miss", text: ({ band }) => percent(band.hardMissShare) },
          { title: "requests that waited", text: ({ band }) => percent(band.waitShare) },
          { title: "recomputes/s", text: ({ band }) => number(band.recomputesPerSecond) },
          { title: "rebuild commands/s", text: ({ band }) => number(band.rebuildCommandsPerSecond) },
        ],
      ),
    );
  }
  return rows;
}
