import type { HerdPlan, MeasuredHerd } from "./measured-herd.js";
import type { RealServer } from "./server-choice.js";

export type ToWorker =
  { readonly type: "prepare"; readonly server: RealServer; readonly plan: HerdPlan } | { readonly type: "go" };

/** A query is reported as it begins; messages keep their order, so all of them have come when "done" comes. */
export type FromWorker =
  { readonly type: "prepared" } | { readonly type: "query" } | { readonly type: "done"; readonly herd: MeasuredHerd };
