import * as Plot from "@observablehq/plot";
import { showNumber } from "../harness/table.js";
import type { SourceQueriesOutcome } from "../scenarios/source-queries.js";
import { ink } from "./palette.js";
import { drawPicture } from "./picture.js";

const BIN_MS = 100;
// Queries closer than this to each other are one burst, which is labelled once.
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

interface Burst {
  readonly contender: string;
  readonly atSeconds: number;
  readonly height: number;
  readonly queries: number;
}

/** What the source sees: queries per 100 ms, one row for each way of caching. */
export function drawSourceQueries(outcome: SourceQueriesOutcome): string {
  const { rows, processes, callersPerProcess, ttlMs, recomputeMs, durationMs } = outcome;
  const bins = rows.flatMap(({ contender, queriesAtMs }) => binsOf(contender, queriesAtMs));
  const bursts = rows.flatMap(({ contender, queriesAtMs }) => burstsOf(contender, queriesAtMs, bins));
  const titles = rows.map(({ contender, queriesAtMs }) => ({
    contender,
    text: `${contender}: ${showNumber(queriesAtMs.length)} queries`,
  }));
  const colourOf = ({ contender }: { contender: string }): string => colours[contender] ?? ink.peer;
  return drawPicture({
    heading: "What the database sees when a hot key expires",
    subheading:
      `Queries per ${BIN_MS} ms: a cold start and three expiries. ${processes} processes x ${callersPerProcess} callers, ` +
      `ttl ${ttlMs / 1000} s, each query ${recomputeMs} ms.`,
    width: 760,
    height: 340,
    marginLeft: 44,
    marginRight: 20,
    marginTop: 20,
    marginBottom: 38,
    // A recompute that begins at the end is still seen.
    x: { domain: [0, (durationMs + 3 * BIN_MS) / 1000] },
    y: { label: null, ticks: 3, nice: true, insetTop: 14 },
    fy: { domain: rows.map(({ contender }) => contender), padding: 0.22, axis: null },
    marks: [
      Plot.gridY({ stroke: ink.rule, strokeOpacity: 1, ticks: 3 }),
      Plot.axisY({ color: ink.muted, ticks: 3, tickSize: 0, label: null }),
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
      Plot.text(bursts, {
        fy: "contender",
        x: "atSeconds",
        y: "height",
        text: ({ queries }: Burst) => showNumber(queries),
        dy: -9,
        fill: colourOf,
        fontWeight: 600,
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

function binsOf(contender: string, queriesAtMs: readonly number[]): Bin[] {
  const counts = new Map<number, number>();
  for (const atMs of queriesAtMs) {
    const index = Math.max(0, Math.floor(atMs / BIN_MS));
    counts.set(index, (counts.get(index) ?? 0) + 1);
  }
  return [...counts].map(([index, queries]) => ({
    contender,
    fromSeconds: (index * BIN_MS) / 1000,
    toSeconds: ((index + 1) * BIN_MS) / 1000,
    queries,
  }));
}

function burstsOf(contender: string, queriesAtMs: readonly number[], bins: readonly Bin[]): Burst[] {
  const groups: number[][] = [];
  for (const atMs of queriesAtMs) {
    const group = groups.at(-1);
    if (group && atMs - group.at(-1)! <= BURST_GAP_MS) group.push(atMs);
    else groups.push([atMs]);
  }
  return groups.map((group) => {
    const fromSeconds = Math.floor(group[0]! / BIN_MS) * (BIN_MS / 1000);
    const toSeconds = group.at(-1)! / 1000;
    const own = bins.filter(
      (bin) => bin.contender === contender && bin.fromSeconds >= fromSeconds - 1e-9 && bin.fromSeconds <= toSeconds,
    );
    return {
      contender,
      atSeconds: (fromSeconds + Math.max(...own.map((bin) => bin.toSeconds))) / 2,
      height: Math.max(...own.map(({ queries }) => queries)),
      queries: group.length,
    };
  });
}
