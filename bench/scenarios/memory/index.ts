import type { RunContext, Scenario } from "../../scenario.js";
import { type CopiesOutcome, measureCopies, tableOfCopies } from "./copies.js";
import { type FenceRow, measureFences, tableOfFences } from "./fences.js";
import { type MemoryHitsOutcome, hitContenders, measureMemoryHits, tableOfHits } from "./hits.js";
import { type InvalidatesOutcome, measureInvalidates, tablesOfInvalidates } from "./invalidates.js";

export interface MemoryOutcome {
  readonly hits: MemoryHitsOutcome;
  readonly invalidates: InvalidatesOutcome;
  readonly fences: readonly FenceRow[];
  readonly copies: CopiesOutcome | null;
}

/** A cache in the memory of each process: how fast it is, and what it serves after an invalidate. */
export const memory: Scenario<MemoryOutcome> = {
  name: "memory",
  summary: "hits from memory, outdated reads after invalidates (frozen process, lost message), latency of fences",
  contenders: hitContenders,
  run,
  tables: ({ hits, invalidates, fences, copies }) => [
    ...tableOfHits(hits),
    ...tablesOfInvalidates(invalidates),
    ...tableOfFences(fences),
    ...tableOfCopies(copies),
  ],
};

async function run(context: RunContext): Promise<MemoryOutcome> {
  return {
    hits: await measureMemoryHits(context),
    invalidates: await measureInvalidates(context),
    fences: await measureFences(context),
    copies: await measureCopies(context),
  };
}
