import fc from "fast-check";
import type { Setting } from "./setting.js";
import { settings } from "./setting.js";
import { explore } from "./world.js";

const choices = fc.array(fc.integer({ min: 0, max: 65_535 }), { minLength: 5, maxLength: 60, size: "max" });

export interface Exploration {
  readonly schedules: number;
  readonly seed: number;
}

/** Explores this many schedules. Throws at the first violation, shrunk, with the seed and path that lead back to it. */
export async function exploreMany({ schedules, seed }: Exploration): Promise<Record<string, number>> {
  const happened: Record<string, number> = {};
  await fc.assert(schedulesCounting(happened), { numRuns: schedules, seed });
  return happened;
}

/** How many schedules it takes to find a violation, and which; undefined if there is none in so many. */
export async function firstViolation(wanted: Exploration): Promise<{ after: number; message: string } | undefined> {
  const { schedules, seed } = wanted;
  const run = await fc.check(schedulesCounting({}), { numRuns: schedules, seed, endOnFailure: true });
  if (!run.failed) return undefined;
  return { after: run.numRuns, message: String((run.errorInstance as Error | null)?.message).split("\n", 1)[0]! };
}

function schedulesCounting(happened: Record<string, number>): fc.IAsyncProperty<[Setting, number[]]> {
  return fc.asyncProperty(fc.noBias(settings), fc.noBias(choices), async (where, steps) => {
    const world = await explore(where, steps);
    for (const [name, count] of Object.entries(world.happened())) happened[name] = (happened[name] ?? 0) + count;
  });
}
