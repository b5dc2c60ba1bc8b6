import type { CachedEntry, CacheFenceOptions, CacheFenceStats, GetOrSetOptions } from "cachefence";

/** The options of a service's cache. A store cannot be sent: the service makes it. */
export interface ServiceOptions extends Omit<CacheFenceOptions, "memory"> {
  readonly memory?: "map";
}

/** How a service of a fleet is to behave; sent once per test, so that its process serves many. */
export interface ServicePlan {
  readonly url: string;
  readonly major: "5" | "6";
  readonly options: ServiceOptions;
  /** Redis hash in which every recompute of the fleet is counted. */
  readonly counter: string;
  /** Name of all connections of the service, the library's own among them. */
  readonly connectionName: string;
}

/** What the recompute of a call does. `gated`: it tells that it has started, and ends when it is told to. */
export type RecomputePlan =
  | { readonly kind: "gated" }
  | { readonly kind: "returns"; readonly value: unknown; readonly afterMs: number }
  | { readonly kind: "throws"; readonly message: string; readonly afterMs: number };

/** Where a service stops for ever: its claim or its store is not sent, or is sent and its answer never arrives. */
export interface Snag {
  readonly on: "claim" | "store";
  readonly isSent: boolean;
}

export interface HistoryPlan {
  readonly keys: readonly string[];
  readonly readers: number;
  /** The source: a string with the version of the key, at this prefix plus the key. */
  readonly source: string;
  /** The tags of each key, in the order of the keys. Default: none. */
  readonly tags?: readonly (readonly string[])[];
}

/** What a `getOrSetEntry` told of its value. */
export type ReadEntry = Pick<CachedEntry<unknown>, "value" | "source">;

/** What a service fences. With a ttl and a value it is a `set` of one key. */
export type FencePlan =
  | { readonly keys: readonly string[] }
  | { readonly tags: readonly string[] }
  | { readonly key: string; readonly ttl: number; readonly value: unknown };

/** One read: the key's index, when it began (nanoseconds of the host's monotonic clock), the version that it got. */
export type LoggedRead = readonly [key: number, beganNs: string, version: number];

export interface Residue {
  readonly listeners: number;
  readonly timers: number;
  readonly heapBytes: number;
}

/** Commands and what they answer. */
export interface Commands {
  open: { ask: { plan: ServicePlan }; answer: null };
  getOrSet: {
    ask: { key: string; ttl: number; recompute: RecomputePlan; callers: number; options?: GetOrSetOptions };
    answer: Result[];
  };
  /** As many `getOrSetEntry` one after the other, with a gated recompute. */
  getOrSetEntry: { ask: { key: string; times: number; tags?: string[] }; answer: ReadEntry[] };
  /** Answers with the moment at which it had resolved: nanoseconds of the host's monotonic clock. */
  fence: { ask: { fence: FencePlan }; answer: string };
  invalidate: { ask: { keys: string[] }; answer: null };
  set: { ask: { key: string; ttl: number; value: unknown }; answer: null };
  stats: { ask: object; answer: CacheFenceStats };
  idle: { ask: object; answer: null };
  snag: { ask: { snag: Snag }; answer: null };
  /** The next read is answered by Redis at once, but its reply reaches the cache only after `deliverRead`. */
  withholdRead: { ask: object; answer: null };
  deliverRead: { ask: object; answer: null };
  /** Blocks the event loop until the file exists. */
  block: { ask: { untilFile: string }; answer: null };
  readUntilStopped: { ask: { plan: HistoryPlan }; answer: LoggedRead[] };
  stopReading: { ask: object; answer: null };
  residue: { ask: object; answer: Residue };
  /** Closes the service's own clients, but not the cache, and lets go of the test: the process is to end by itself. */
  retire: { ask: object; answer: null };
}

export type CommandName = keyof Commands;

/** How a call ended. */
export type Result =
  { readonly value: unknown } | { readonly error: { name: string; message: string; cause: string | undefined } };

export type ToService =
  | { readonly [N in CommandName]: { type: "ask"; id: number; name: N; ask: Commands[N]["ask"] } }[CommandName]
  | { readonly type: "recompute-ends"; readonly recompute: number; readonly value: unknown; readonly error?: string };

export type FromService =
  | { readonly type: "ready" }
  | { readonly type: "answer"; readonly id: number; readonly answer: unknown }
  | { readonly type: "failed"; readonly id: number; readonly message: string }
  | { readonly type: "recompute-started"; readonly recompute: number; readonly key: string }
  | { readonly type: "snagged" }
  | { readonly type: "unhandled"; readonly message: string };
