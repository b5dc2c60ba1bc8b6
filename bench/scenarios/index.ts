import type { Scenario } from "../scenario.js";
import { hitPath } from "./hit-path.js";
import { stampede } from "./stampede.js";

// In the order in which they run and are printed.
export const scenarios: readonly Scenario[] = [stampede, hitPath];
