import { mkdir, readFile, writeFile } from "node:fs/promises";
import { benchFolder } from "../harness/folders.js";
import { latestRun } from "../harness/results.js";
import type { FleetGrowthOutcome } from "../scenarios/fleet-growth.js";
import type { MemoryOutcome } from "../scenarios/memory/index.js";
import type { SourceQueriesOutcome } from "../scenarios/source-queries.js";
import type { StampedeOutcome } from "../scenarios/stampede.js";
import type { SimulationResults } from "../simulate/results.js";
import { drawFleetSize } from "./fleet-size.js";
import { drawMemory } from "./memory.js";
import { drawSourceQueries } from "./source-queries.js";
import { drawStampedeLatency } from "./stampede-latency.js";

async function readSimulation(): Promise<SimulationResults> {
  try {
    return JSON.parse(await readFile(new URL("results/simulate.json", benchFolder), "utf8")) as SimulationResults;
  } catch (error) {
    throw new Error("The fleet's picture needs the simulation's results: npm run simulate", { cause: error });
  }
}

/** Draws every picture from what the runs have stored. */
export async function drawPictures(folder: URL): Promise<string[]> {
  const pictures = {
    "source-queries.svg": drawSourceQueries((await latestRun<SourceQueriesOutcome>("source-queries")).outcome),
    "stampede-latency.svg": drawStampedeLatency((await latestRun<StampedeOutcome>("stampede")).outcome),
    "memory.svg": drawMemory((await latestRun<MemoryOutcome>("memory")).outcome),
    "fleet-size.svg": drawFleetSize(
      (await latestRun<FleetGrowthOutcome>("fleet-growth")).outcome,
      await readSimulation(),
    ),
  };
  await mkdir(folder, { recursive: true });
  for (const [name, svg] of Object.entries(pictures)) await writeFile(new URL(name, folder), svg);
  return Object.keys(pictures);
}
