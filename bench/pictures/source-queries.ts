import * as Plot from "@observablehq/plot";
import { showNumber } from "../harness/table.js";
import type { SourceQueriesOutcome } from "../scenarios/source-queries.js";
import { ink } from "./palette.js";
import { EDGE, FONT_SIZE, drawPicture, halo } from "./picture.js";
import { widestText } from "./text-width.js";
import { linearTicks } from "./ticks.js";

const BIN_MS = 100;
// Queries closer than this to each other are one burst: its bars begin with its first query, and the highest is labelled.
const BURST_GAP_MS = 400;
const colours: Readonly<Record<string, string>> = {
  naive: ink.naive,
  coalescing: ink.coalescing,
  cachefence: ink.cachefence,
};

interface Bin {
  readonly contender: string;
  readonly fromSeconds: number;
  readonly toSeconds: number;
  readonly queries: number;
}

/** What the source sees: queries per 100 ms, one row for each way of caching. */
export function drawSourceQueries(outcome: SourceQueriesOutcome): string {
  const { rows, processes, callersPerProcess, ttlMs, recomputeMs, durationMs } = outcome;
  const bursts = rows.flatMap(({ contender, queriesAtMs }) => burstsOf(contender, queriesAtMs));
  const bins = bursts.flat();
  const ticks = linearTicks(Math.max(...bins.map(({ queries }) => queries)), 2);
  const titles = rows.map(({ contender, queriesAtMs }) => ({
    contender,
    text: `${contender}: ${showNumber(queriesAtMs.length)} queries`,
  }));
  const colourOf = ({ contender }: { contender: string }): string => colours[contender] ?? ink.peer;
  return drawPicture({
    heading: "What the database sees when a hot key expires",
    subheading:
      `Queries of the source in ${BIN_MS} ms: a cold start and three expiries. ${processes} processes x ${callersPerProcess} callers, ` +
      `ttl ${ttlMs / 1000} s, each query ${recomputeMs} ms.`,
    width: 760,
    height: 400,
    marginLeft: EDGE + widestText(ticks.map(String), FONT_SIZE),
    marginRight: 20,
    marginTop: 20,
    marginBottom: 38,
    // A recompute that begins at the end is still seen.
    x: { domain: [0, (durationMs + 3 * BIN_MS) / 1000], insetLeft: 24 },
    // Above the highest bar its label, above that the title of the row.
    y: { label: null, domain: [0, ticks.at(-1)!], insetTop: 30 },
    fy: { domain: rows.map(({ contender }) => contender), padding: 0.22, axis: null },
    marks: [
      Plot.gridY({ stroke: ink.rule, strokeOpacity: 1, ticks }),
      Plot.axisY({ color: ink.muted, ticks, tickSize: 0, label: null }),
      Plot.axisX({
        color: ink.muted,
        label: "seconds",
        labelAnchor: "center",
        labelArrow: "none",
        tickSize: 4,
        ticks: 8,
      }),
      Plot.rectY(bins, {
        fy: "contender",
        x1: "fromSeconds",
        x2: "toSeconds",
        y: "queries",
        fill: colourOf,
        inset: 0,
        // One query among hundreds is still to be seen.
        insetTop: -1.5,
      }),
      Plot.ruleY([0], { stroke: ink.muted }),
      Plot.text(bursts.map(highestOf), {
        fy: "contender",
        x: ({ fromSeconds, toSeconds }: Bin) => (fromSeconds + toSeconds) / 2,
        y: "queries",
        text: ({ queries }: Bin) => showNumber(queries),
        dy: -9,
        fill: colourOf,
        fontWeight: 600,
        ...halo,
      }),
      Plot.text(titles, {
        fy: "contender",
        frameAnchor: "top-left",
        dy: -4,
        text: "text",
        fill: colourOf,
        fontWeight: 600,
        fontSize: 13,
      }),
    ],
  });
}

/** The bars of each burst. */
function burstsOf(contender: string, queriesAtMs: readonly number[]): Bin[][] {
  const bursts: number[][] = [];
  for (const atMs of queriesAtMs) {
    const burst = bursts.at(-1);
    if (burst && atMs - burst.at(-1)! <= BURST_GAP_MS) burst.push(atMs);
    else bursts.push([atMs]);
  }
  return bursts.map((burst) => binsOf(contender, burst));
}

function binsOf(contender: string, burst: readonly number[]): Bin[] {
  const firstMs = Math.max(0, burst[0]!);
  const counts = new Map<number, number>();
  for (const atMs of burst) {
    const index = Math.max(0, Math.floor((atMs - firstMs) / BIN_MS));
    counts.set(index, (counts.get(index) ?? 0) + 1);
  }
  return [...counts].map(([index, queries]) => ({
    contender,
    fromSeconds: (firstMs + index * BIN_MS) / 1000,
    toSeconds: (firstMs + (index + 1) * BIN_MS) / 1000,
    queries,
  }));
}

function highestOf(bins: readonly Bin[]): Bin {
  return bins.reduce((highest, bin) => (bin.queries > highest.queries ? bin : highest));
}
