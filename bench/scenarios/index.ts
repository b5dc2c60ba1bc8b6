import type { Scenario } from "../scenario.js";
import { crash } from "./crash.js";
import { failingSource } from "./failing-source.js";
import { fleetGrowth } from "./fleet-growth.js";
import { hitPath } from "./hit-path.js";
import { invalidationStorm } from "./invalidation-storm.js";
import { lists } from "./lists.js";
import { memory } from "./memory/index.js";
import { sourceQueries } from "./source-queries.js";
import { stampede } from "./stampede.js";
import { steadyLoad } from "./steady-load.js";

// In the order in which they run and are printed.
export const scenarios: readonly Scenario[] = [
  stampede,
  crash,
  failingSource,
  steadyLoad,
  invalidationStorm,
  hitPath,
  memory,
  lists,
  sourceQueries,
  fleetGrowth,
];
