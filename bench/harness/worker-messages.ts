import type { JobName } from "../jobs/index.js";

export interface ToWorker {
  readonly number: number;
  readonly name: JobName;
  readonly input: unknown;
}

export type FromWorker =
  | { readonly kind: "ready" }
  | { readonly kind: "done"; readonly number: number; readonly output: unknown }
  | { readonly kind: "failed"; readonly number: number; readonly error: string };
