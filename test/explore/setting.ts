import fc from "fast-check";

/** What stays as it is for a whole schedule. Every first choice is the plain one: a failure shrinks towards it. */
export interface Setting {
  readonly hostCount: number;
  readonly lockTimeout: number;
  readonly waitForLock: number;
  readonly staleFor: number;
  readonly earlyRefresh: "inline" | "background";
  readonly recomputeTimeout: number | undefined;
  readonly onRedisError: "recompute" | "throw";
  /** What is stored at first: nothing, a value that is good for 20 s more, or one that went stale a second ago. */
  readonly start: "empty" | "valid" | "stale";
  /** Whether processes die, connections are lost and memory runs out. */
  readonly hasFaults: boolean;
  /** Whether each draw asks for an early refresh. */
  readonly isEager: boolean;
  /** Whether clients send again what a lost connection has left unanswered. */
  readonly resends: boolean;
  readonly allowsPubSub: boolean;
  /** Whether Redis says nothing for some seconds before everything comes to rest. */
  readonly endsInSilence: boolean;
  /** Whether what a dead process had sent is executed in the end, or lost. */
  readonly executesLastWords: boolean;
  /** Hosts whose clock is an hour ahead of the one before. */
  readonly hasSkewedClocks: boolean;
  /** Whether processes keep copies, but for the last. */
  readonly hasMemory: boolean;
  /** Whether calls name a tag, which may be fenced. */
  readonly isTagged: boolean;
  /**
   * Whether the network is mostly quick: calls are then answered before anything else happens, and little time passes. So a
   * schedule gets to what needs many calls in a row, such as copies that are fenced and made again.
   */
  readonly isBrisk: boolean;
  /** Whether Redis may evict the audience: fences do not know of the copies that were in it. */
  readonly evictsAudiences: boolean;
}

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

export const settings: fc.Arbitrary<Setting> = fc.oneof(
  { weight: 2, arbitrary: anything },
  { weight: 1, arbitrary: hotKey },
);
