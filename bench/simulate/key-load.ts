import type { RefreshHazard } from "./refresh-hazard.js";

/**
 * What readers do when nothing fresh is there:
 * - `naive`: whoever finds it expired recomputes;
 * - `coalescing`: the same, once per process at a time;
 * - `lockOnly`: one rebuild in the fleet, the others wait;
 * - `xfetchOnly`: early refresh by chance, nobody coordinated;
 * - `cachefence`: early refresh by chance, one rebuild in the fleet, the others keep the value or wait.
 */
export type Policy = "naive" | "coalescing" | "lockOnly" | "xfetchOnly" | "cachefence";

export const POLICIES: readonly Policy[] = ["naive", "coalescing", "lockOnly", "xfetchOnly", "cachefence"];

/** One key and those who read it. */
export interface KeyLoad {
  /** Of the whole fleet: Poisson, spread evenly over the processes. */
  readonly ratePerSecond: number;
  readonly deltaSeconds: number;
  readonly ttlSeconds: number;
  readonly beta: number;
  readonly processes: number;
  readonly staleForSeconds: number;
  /** Whether the winner of a refresh waits for it while there is a value it could be served. */
  readonly earlyRefresh: "inline" | "background";
  readonly waitForLockSeconds: number;
  readonly roundTripSeconds: number;
}

/** Early refresh under this policy: the policies without XFetch have none. */
export function refreshHazard(load: KeyLoad, policy: Policy): RefreshHazard {
  const isEarly = policy === "xfetchOnly" || policy === "cachefence";
  return { ratePerSecond: load.ratePerSecond, earlySeconds: isEarly ? load.beta * load.deltaSeconds : 0 };
}
