import fc from "fast-check";
import type { Setting } from "./world.js";
import { explore } from "./world.js";

/** Everything, and all of it at once. */
const anything: fc.Arbitrary<Setting> = fc.record({
  hostCount: fc.constantFrom(1, 2, 2, 2, 3),
  lockTimeout: fc.constantFrom(10, 3),
  waitForLock: fc.constantFrom(5, 1, 0),
  staleFor: fc.constantFrom(0, 30),
  earlyRefresh: fc.constantFrom("inline", "background"),
  recomputeTimeout: fc.constantFrom(undefined, undefined, undefined, 4),
  onRedisError: fc.constantFrom("recompute", "throw"),
  start: fc.constantFrom("empty", "empty", "valid", "stale"),
  hasFaults: fc.boolean(),
  isEager: fc.boolean(),
  resends: fc.constantFrom(true, true, false),
  allowsPubSub: fc.constantFrom(true, true, true, false),
  endsInSilence: fc.constantFrom(false, false, true),
  executesLastWords: fc.boolean(),
  hasSkewedClocks: fc.boolean(),
  hasMemory: fc.constantFrom(false, true, true),
  isTagged: fc.constantFrom(false, false, true),
  isBrisk: fc.boolean(),
  evictsAudiences: fc.constantFrom(false, false, false, false, false, false, false, true),
});

/** A hot key that some processes have copies of, and that is fenced time and again. */
const hotKey: fc.Arbitrary<Setting> = fc.record({
  hostCount: fc.constantFrom(2, 2, 3),
  lockTimeout: fc.constant(10),
  waitForLock: fc.constant(5),
  staleFor: fc.constantFrom(0, 30),
  earlyRefresh: fc.constantFrom("inline", "background"),
  recomputeTimeout: fc.constant(undefined),
  onRedisError: fc.constantFrom("recompute", "throw"),
  start: fc.constant("valid"),
  hasFaults: fc.constantFrom(false, true),
  isEager: fc.constantFrom(false, false, false, true),
  resends: fc.constantFrom(true, true, false),
  allowsPubSub: fc.constant(true),
  endsInSilence: fc.constant(false),
  executesLastWords: fc.boolean(),
  hasSkewedClocks: fc.boolean(),
  hasMemory: fc.constant(true),
  isTagged: fc.constantFrom(false, false, true),
  isBrisk: fc.constant(true),
  evictsAudiences: fc.constantFrom(false, false, false, false, true),
});

const setting = fc.oneof({ weight: 2, arbitrary: anything }, { weight: 1, arbitrary: hotKey });

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
  return fc.asyncProperty(fc.noBias(setting), fc.noBias(choices), async (where, steps) => {
    const world = await explore(where, steps);
    for (const [name, count] of Object.entries(world.happened())) happened[name] = (happened[name] ?? 0) + count;
  });
}
