import type { StoredValue } from "../call/stored-value.js";
import type { Callers } from "../events.js";
import type { ResolvedCallOptions } from "../options.js";
import type { Entry } from "../protocol/entry.js";
import type { KeyNames } from "../protocol/key-names.js";

/** An entry that may be served, with this caller's own value of it. */
export interface Found {
  readonly entry: Entry<StoredValue>;
  readonly value: unknown;
  readonly source: "memory" | "redis";
  readonly servableUntilSeconds: number;
  /** When it was found servable, in server time. */
  readonly atSeconds: number;
}

/** What a look found: what may be served, or else what is there all the same. */
export interface Look {
  readonly found: Found | undefined;
  readonly atHand: Entry<StoredValue> | undefined;
}

/** Who looks, and what it has learnt of it. */
export interface Looker {
  readonly key: string;
  readonly names: KeyNames;
  readonly options: ResolvedCallOptions;
  /** Where it looks for a crowd: it has no recompute of its own. */
  readonly callers: Callers | undefined;
  /** A `peek`: it leaves nothing behind in Redis. */
  readonly isOnlyLooking: boolean;
  /** One of a list: called before it sends what others of the list do at the same time. */
  hold: (() => void) | undefined;
  /** What its tags stood at when it last looked; undefined if that failed. */
  tags: string | undefined;
  /** It has looked, and found nothing that would do, or nothing that is not due. */
  hasBoarded: boolean;
  /** Something has been seen of Redis, and so of what others have done: whoever comes now comes after it. */
  hasLooked: boolean;
  /** What its last look came to. A flight that fares no better tells of it. */
  fault: unknown;
}
