import type { LoggedRead } from "./service-messages.js";

/** An invalidate of a key: the version of the source that it made known, and when it had resolved. */
export interface LoggedFence {
  readonly version: number;
  readonly resolvedNs: bigint;
}

/**
 * The reads that began when an invalidate had resolved, and got a version from before it. All times are of the host's one
 * monotonic clock; a read's is taken before it begins and a fence's after it has resolved, so what is found is certain.
 */
export function staleReads(reads: readonly LoggedRead[], fences: readonly (readonly LoggedFence[])[]): string[] {
  return reads.flatMap(([key, beganNs, version]) => {
    // The fences of a key resolved in their order.
    const latest = fences[key]!.findLast(({ resolvedNs }) => resolvedNs < BigInt(beganNs));
    if (latest === undefined || version >= latest.version) return [];
    return [`key ${key}: read version ${version}, begun after the invalidate of version ${latest.version}`];
  });
}
