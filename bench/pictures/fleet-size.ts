import * as Plot from "@observablehq/plot";
import { showNumber } from "../harness/table.js";
import type { FleetGrowthOutcome } from "../scenarios/fleet-growth.js";
import type { SimulationResults } from "../simulate/results.js";
import { ink } from "./palette.js";
import { EDGE, FONT_SIZE, axisTitle, drawPicture, halo } from "./picture.js";
import { widestText } from "./text-width.js";
import { powersOfTen } from "./ticks.js";

type Growth = Pick<SimulationResults, "fleetGrowth">;
type Policy = keyof SimulationResults["fleetGrowth"][number]["byPolicy"];

interface Line {
  /** In the simulation, and among the measured ones. */
  readonly policy: Policy;
  readonly contender: string;
  readonly colour: string;
}

const GAP = 8;
const axis: Plot.AxisOptions = {
  color: ink.muted,
  tickFormat: (value: number) => showNumber(value),
  labelArrow: "none",
};

// cachefence's rebuild of a cold key is the simulation's lock alone: nothing is there to be refreshed early.
const lines: readonly Line[] = [
  { policy: "naive", contender: "naive", colour: ink.naive },
  { policy: "coalescing", contender: "coalescing", colour: ink.coalescing },
  { policy: "lockOnly", contender: "cachefence", colour: ink.cachefence },
];

/** Recomputes of one cold key against the size of the fleet: simulated lines, measured points. */
export function drawFleetSize(
  { rows, recomputeMs, callersPerProcess }: FleetGrowthOutcome,
  { fleetGrowth }: Growth,
): string {
  const simulated = lines.flatMap(({ policy, contender, colour }) =>
    fleetGrowth.map(({ processes, byPolicy }) => ({
      contender,
      colour,
      processes,
      recomputes: byPolicy[policy].recomputes,
    })),
  );
  const measured = lines.flatMap(({ contender, colour }) =>
    (rows.find((row) => row.contender === contender)?.sizes ?? []).map(({ processes, recomputes }) => ({
      contender,
      colour,
      processes,
      recomputes: recomputes.median,
    })),
  );
  const largest = Math.max(...simulated.map(({ processes }) => processes));
  const recomputeTicks = powersOfTen(Math.max(...simulated.map(({ recomputes }) => recomputes)));
  const ends = simulated.filter(({ processes }) => processes === largest);
  const marginLeft = EDGE + widestText(["recomputes", ...recomputeTicks.map((tick) => showNumber(tick))], FONT_SIZE);
  const colour = (point: { colour: string }): string => point.colour;
  return drawPicture({
    heading: "Recomputes of one cold key as the fleet grows",
    subheading:
      `Points: measured, ${callersPerProcess} callers in each process. Lines: simulated, 20 requests/s from each, ` +
      `which is as many in a recompute of ${recomputeMs} ms.`,
    width: 760,
    height: 380,
    marginLeft,
    marginRight:
      EDGE +
      GAP +
      widestText(
        ends.flatMap(({ contender, recomputes }) => [contender, showNumber(recomputes)]),
        FONT_SIZE,
        true,
      ),
    marginTop: 24,
    marginBottom: 42,
    x: { type: "log" },
    y: { type: "log", domain: [0.7, recomputeTicks.at(-1)!] },
    marks: [
      Plot.gridY({ stroke: ink.rule, strokeOpacity: 1, ticks: recomputeTicks }),
      Plot.axisY({ ...axis, ticks: recomputeTicks, label: null, tickSize: 0 }),
      axisTitle("recomputes", marginLeft),
      Plot.axisX({ ...axis, ticks: powersOfTen(largest), label: "processes", labelAnchor: "center", tickSize: 4 }),
      Plot.line(simulated, { x: "processes", y: "recomputes", z: "contender", stroke: colour, strokeWidth: 1.5 }),
      Plot.dot(measured, { x: "processes", y: "recomputes", fill: colour, r: 4 }),
      Plot.text(ends, {
        x: "processes",
        y: "recomputes",
        text: ({ contender, recomputes }: { contender: string; recomputes: number }) =>
          `${contender}\n${showNumber(recomputes)}`,
        textAnchor: "start",
        lineAnchor: "bottom",
        dx: GAP,
        fill: colour,
        fontWeight: 600,
      }),
    ],
  });
}
