import type { RealServer } from "./server-choice.js";

export type ToMemoryWorker =
  | { readonly type: "open"; readonly server: RealServer; readonly memoryLease: number }
  | { readonly type: "read"; readonly keys: readonly string[]; readonly rounds: number }
  | { readonly type: "fence"; readonly key: string }
  | { readonly type: "close" }
  /** The answer of the database, which is in the parent. */
  | { readonly type: "price"; readonly key: string; readonly price: number };

export interface Reads {
  /** What the last round found, in the order of the keys. */
  readonly prices: readonly number[];
  readonly fromMemory: number;
  readonly commandsSent: number;
}

export type FromMemoryWorker =
  | { readonly type: "opened" }
  | { readonly type: "query"; readonly key: string }
  | { readonly type: "read"; readonly reads: Reads }
  | { readonly type: "fenced"; readonly tookMs: number }
  | { readonly type: "closed" };
