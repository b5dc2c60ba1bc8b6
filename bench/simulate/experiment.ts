import type { Policy } from "./key-load.js";
import type { Random } from "./random.js";

/** One part of the simulation: what it plays and what it prints. */
export interface ExperimentContext {
  readonly random: Random;
  /** Scales the number of cycles. */
  readonly isShort: boolean;
  readonly print: (text: string) => void;
}

/** Fewer cycles where each is a walk over the whole fleet, so that no configuration takes longer than the others. */
export function cyclesFor({ isShort }: ExperimentContext, policy: Policy, processes: number): number {
  const most = isShort ? 1_000 : 10_000;
  if (policy !== "coalescing" && policy !== "lockOnly") return most;
  const visits = isShort ? 300_000 : 2_000_000;
  return Math.max(Math.min(most, Math.floor(visits / processes)), 50);
}
