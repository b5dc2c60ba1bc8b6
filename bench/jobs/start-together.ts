import { setTimeout as sleep } from "node:timers/promises";
import { machineMs } from "../harness/clock.js";

const SPIN_MS = 2;

/** Waits for a moment on the machine's clock. A timer alone may be a millisecond or more late, so the end is spun. */
export async function startTogether(startAtMs: number): Promise<void> {
  const waitMs = startAtMs - machineMs() - SPIN_MS;
  if (waitMs > 0) await sleep(waitMs);
  while (machineMs() < startAtMs);
}
