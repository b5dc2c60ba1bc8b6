import * as Plot from "@observablehq/plot";
import { showNumber } from "../harness/table.js";
import type { StampedeOutcome, StampedeRow } from "../scenarios/stampede.js";
import { cachefence } from "../contenders/cachefence.js";
import { ink } from "./palette.js";
import { EDGE, FONT_SIZE, drawPicture } from "./picture.js";
import { widestText } from "./text-width.js";
import { logTicks } from "./ticks.js";

const BINS = 90;
const ROW_HEIGHT = 44;
const GAP = 12;

interface Bin {
  readonly contender: string;
  readonly fromMs: number;
  readonly toMs: number;
  /** Of the contender's fullest bin. */
  readonly share: number;
}

/** How long the callers of a stampede wait, one row for each library. */
export function drawStampedeLatency({ cases }: StampedeOutcome): string {
  const stampede = cases.find(({ processes, recomputeMs }) => processes > 1 && recomputeMs === 50) ?? cases[0];
  if (!stampede) throw new Error("No stampede was measured");
  const { name, recomputeMs } = stampede;
  const rows = [...stampede.rows].sort((a, b) => a.p99Ms.median - b.p99Ms.median);
  const longestMs = Math.max(...rows.flatMap(({ latenciesMs }) => latenciesMs));
  const ticks = logTicks(recomputeMs * 0.9, longestMs);
  const domainMs: [number, number] = [ticks[0]!, ticks.at(-1)!];
  const bins = rows.flatMap((row) => binsOf(row, domainMs));
  const colourOf = ({ contender }: { contender: string }): string =>
    contender === cachefence.name ? ink.cachefence : ink.peer;
  const textColourOf = ({ contender }: { contender: string }): string =>
    contender === cachefence.name ? ink.cachefence : ink.ink;
  return drawPicture({
    heading: "How long the callers of one cold key wait",
    subheading: `Each caller of one stampede, each row to its own height; p99: median of all rounds. ${name} recompute.`,
    width: 760,
    height: rows.length * ROW_HEIGHT + 46,
    marginLeft:
      EDGE +
      GAP +
      widestText(
        rows.map(({ contender }) => contender),
        FONT_SIZE,
        true,
      ),
    marginRight: EDGE + GAP + widestText(rows.map(outcomeOf), FONT_SIZE),
    marginTop: 8,
    marginBottom: 38,
    x: { type: "log", domain: domainMs },
    y: { axis: null, domain: [0, 1] },
    fy: { domain: rows.map(({ contender }) => contender), padding: 0.2, axis: null },
    marks: [
      Plot.gridX({ stroke: ink.rule, strokeOpacity: 1, ticks }),
      Plot.axisX({
        color: ink.muted,
        label: "milliseconds",
        labelAnchor: "center",
        labelArrow: "none",
        ticks,
        tickSize: 4,
        tickFormat: (ms: number) => showNumber(ms),
      }),
      Plot.rectY(bins, { fy: "contender", x1: "fromMs", x2: "toMs", y: "share", fill: colourOf, inset: 0 }),
      Plot.ruleY(rows, { fy: "contender", y: 0, stroke: ink.rule }),
      Plot.text(rows, {
        fy: "contender",
        frameAnchor: "bottom-left",
        textAnchor: "end",
        dx: -GAP,
        dy: -6,
        text: "contender",
        fill: textColourOf,
        fontWeight: 600,
      }),
      Plot.text(rows, {
        fy: "contender",
        frameAnchor: "bottom-right",
        textAnchor: "start",
        dx: GAP,
        dy: -6,
        text: outcomeOf,
        fill: textColourOf,
      }),
    ],
  });
}

function outcomeOf({ p99Ms, recomputes }: StampedeRow): string {
  const noun = recomputes.median === 1 ? "recompute" : "recomputes";
  return `p99 ${showNumber(p99Ms.median)} ms, ${showNumber(recomputes.median)} ${noun}`;
}

/** Bins as wide as each other on the logarithmic axis. */
function binsOf({ contender, latenciesMs }: StampedeRow, [leastMs, mostMs]: readonly [number, number]): Bin[] {
  const step = Math.log(mostMs / leastMs) / BINS;
  const counts = new Map<number, number>();
  for (const latencyMs of latenciesMs) {
    const index = Math.max(0, Math.floor(Math.log(latencyMs / leastMs) / step));
    counts.set(index, (counts.get(index) ?? 0) + 1);
  }
  const fullest = Math.max(...counts.values());
  return [...counts].map(([index, count]) => ({
    contender,
    fromMs: leastMs * Math.exp(index * step),
    toMs: leastMs * Math.exp((index + 1) * step),
    share: count / fullest,
  }));
}
