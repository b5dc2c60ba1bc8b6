import { ROUND_TRIP_SECONDS, WAIT_FOR_LOCK_SECONDS } from "./cost-model.js";
import type { KeyLoad } from "./key-load.js";

/** A key as the tables have it where they do not say otherwise. */
export const DEFAULT_LOAD: KeyLoad = {
  ratePerSecond: 1_000,
  deltaSeconds: 0.05,
  ttlSeconds: 60,
  beta: 1,
  processes: 100,
  staleForSeconds: 0,
  earlyRefresh: "inline",
  waitForLockSeconds: WAIT_FOR_LOCK_SECONDS,
  roundTripSeconds: ROUND_TRIP_SECONDS,
};
