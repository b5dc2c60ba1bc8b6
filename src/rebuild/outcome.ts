import type { StoredValue } from "../call/stored-value.js";
import type { Entry } from "../protocol/entry.js";

/**
 * How a flight ended: with a value or a failure, and for which calls that stands.
 *
 * Calls begin on one line of moments. A call may use an outcome iff nothing that it could know of has been fenced since:
 * - its recompute began no earlier than the call (`startedAt`); or
 * - the call began no later than `asOf`, until when nobody had fenced the key, and the tags stood for the call as they stood
 *   for the recompute. `asOf` is the sending of the store (of the lock's release, if nothing is stored), if that was accepted;
 *   the sending of the read that found the value in Redis; or, for a value inside a message, the sending of the claim that it
 *   answers (see Flight).
 */
export interface Outcome {
  /** undefined: the rebuild failed. */
  readonly entry: Entry<StoredValue> | undefined;
  readonly failure?: unknown;
  /** What they stood at before its recompute began; undefined if that is not known. */
  readonly tags: string | undefined;
  readonly startedAt: number;
  readonly asOf: number;
  /** Made by this process, not found in Redis; without Redis, for this process alone. */
  readonly madeBy: "this process" | "this process, without Redis" | "another";
  /** It was there when the flight first looked: nobody has waited for it. */
  readonly wasThere?: boolean;
}

export function standsFor(
  outcome: Outcome,
  call: { readonly began: number; readonly tags: string | undefined },
): boolean {
  if (call.began <= outcome.startedAt) return true;
  return call.began <= outcome.asOf && call.tags !== undefined && call.tags === outcome.tags;
}
