import * as Plot from "@observablehq/plot";
import { cachefence } from "../contenders/cachefence.js";
import { showNumber } from "../harness/table.js";
import { type InvalidatesRow, disturbances } from "../scenarios/memory/invalidates.js";
import type { MemoryOutcome } from "../scenarios/memory/index.js";
import { placeLabels } from "./label-places.js";
import { ink } from "./palette.js";
import { EDGE, FONT_SIZE, axisTitle, drawPicture, halo } from "./picture.js";
import { textWidth, widestText } from "./text-width.js";
import { logTicks, powersOfTen } from "./ticks.js";

const WIDTH = 760;
const HEIGHT = 360;
const MARGIN_TOP = 28;
const MARGIN_BOTTOM = 44;
// Between the axis and the points at 0, for their labels too.
const INSET_BOTTOM = 34;
const LABEL_HEIGHT = 15;

interface Point {
  readonly name: string;
  readonly hitsPerSecond: number;
  readonly outdated: number;
}

/** How fast each library answers from memory, against what it serves after an invalidate has resolved. */
export function drawMemory({ hits, invalidates }: MemoryOutcome): string {
  const hitCase = hits.cases[0];
  if (!hitCase) throw new Error("No hits from memory were measured");
  const points = invalidates.rows.map((row): Point => {
    const speed = hitCase.rows.find(({ contender }) => contender === row.contender);
    if (!speed) throw new Error(`No hits of ${row.contender} were measured`);
    const name = row.contender === cachefence.name ? `${row.contender}, without memory` : row.contender;
    return { name, hitsPerSecond: speed.hitsPerSecond.median, outdated: outdatedOf(row) / invalidates.rounds };
  });
  const speeds = points.map(({ hitsPerSecond }) => hitsPerSecond);
  const speedTicks = logTicks(Math.min(...speeds) * 0.8, Math.max(...speeds) * 1.2).filter(isPowerOfTen);
  const most = powersOfTen(Math.max(10, ...points.map(({ outdated }) => outdated)));
  const staleTicks = [0, ...most];
  const frame = {
    left:
      EDGE +
      widestText(
        staleTicks.map((tick) => showNumber(tick)),
        FONT_SIZE,
      ),
    right: WIDTH - EDGE,
    top: MARGIN_TOP,
    bottom: HEIGHT - MARGIN_BOTTOM,
  };
  const [slowest, fastest] = [Math.min(...speeds) * 0.7, Math.max(...speeds) * 1.4];
  const xOf = ({ hitsPerSecond }: Point): number =>
    frame.left + ((frame.right - frame.left) * Math.log(hitsPerSecond / slowest)) / Math.log(fastest / slowest);
  const zeroY = frame.bottom - INSET_BOTTOM;
  const yOf = ({ outdated }: Point): number =>
    zeroY - ((zeroY - frame.top) * Math.log1p(outdated)) / Math.log1p(most.at(-1)!);
  const labels = placeLabels(
    points.map((point) => ({
      x: xOf(point),
      y: yOf(point),
      width: textWidth(point.name, FONT_SIZE, true),
      height: LABEL_HEIGHT,
    })),
    frame,
  );
  const colourOf = ({ name }: Point): string => (name.startsWith(cachefence.name) ? ink.cachefence : ink.peer);
  const textColourOf = ({ name }: Point): string => (name.startsWith(cachefence.name) ? ink.cachefence : ink.ink);
  return drawPicture({
    heading: "What a cache in memory costs: old values after an invalidate",
    subheading:
      `Up: reads that began after an invalidate had resolved and got a value from before it, in ${invalidates.processes} ` +
      `processes: undisturbed, with one of them frozen, and with a lost message. To the right: hits a second, ${hitCase.name}.`,
    width: WIDTH,
    height: HEIGHT,
    marginLeft: frame.left,
    marginRight: WIDTH - frame.right,
    marginTop: frame.top,
    marginBottom: MARGIN_BOTTOM,
    x: { type: "log", domain: [slowest, fastest] },
    // As yOf has it: the logarithm of one more, so that 0 has a place.
    y: { label: null, domain: [0, Math.log1p(most.at(-1)!)], insetBottom: INSET_BOTTOM },
    marks: [
      Plot.gridY(
        staleTicks.map((tick) => Math.log1p(tick)),
        { stroke: ink.rule, strokeOpacity: 1 },
      ),
      Plot.axisY(
        staleTicks.map((tick) => Math.log1p(tick)),
        {
          color: ink.muted,
          tickSize: 0,
          label: null,
          tickFormat: (logarithm: number) => showNumber(Math.expm1(logarithm)),
        },
      ),
      axisTitle("outdated reads", frame.left),
      Plot.axisX({
        color: ink.muted,
        label: "hits a second",
        labelAnchor: "center",
        labelArrow: "none",
        ticks: speedTicks,
        tickSize: 4,
        tickFormat: (hitsPerSecond: number) => showNumber(hitsPerSecond),
      }),
      Plot.dot(points, {
        x: "hitsPerSecond",
        y: ({ outdated }: Point) => Math.log1p(outdated),
        fill: colourOf,
        r: 5,
      }),
      ...points.map((point, index) =>
        Plot.text([point], {
          x: "hitsPerSecond",
          y: ({ outdated }: Point) => Math.log1p(outdated),
          text: "name",
          textAnchor: "start",
          dx: labels[index]!.left - xOf(point),
          dy: (labels[index]!.top + labels[index]!.bottom) / 2 - yOf(point),
          fill: textColourOf,
          fontWeight: 600,
          ...halo,
        }),
      ),
    ],
  });
}

function outdatedOf({ by }: InvalidatesRow): number {
  return disturbances.reduce((sum, name) => sum + by[name].outdated, 0);
}

function isPowerOfTen(tick: number): boolean {
  return Number.isInteger(Math.round(Math.log10(tick) * 1e6) / 1e6);
}
