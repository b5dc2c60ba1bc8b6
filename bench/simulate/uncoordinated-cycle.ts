import { PLAIN_REBUILD_COMMANDS } from "./cost-model.js";
import type { Cycle } from "./cycle.js";
import { sampleFirstArrivals } from "./first-arrivals.js";
import { type KeyLoad, refreshHazard } from "./key-load.js";
import { samplePoisson } from "./poisson.js";
import type { Random } from "./random.js";
import { cumulativeHazard, hazardBetween, momentOfHazard } from "./refresh-hazard.js";
import type { WaitLedger } from "./wait-ledger.js";

/**
 * One cycle without a lock. From the first refresh until its value can be read, whoever decides to refresh recomputes
 * too. Those that finish later overwrite the entry and so move its expiry: the cycle ends with the last of them.
 */
export function playUncoordinatedCycle(
  random: Random,
  load: KeyLoad,
  policy: "naive" | "xfetchOnly",
  waits: WaitLedger,
): Cycle {
  const hazard = refreshHazard(load, policy);
  const busySeconds = load.deltaSeconds + 2 * load.roundTripSeconds;
  const hazardAtFirst = cumulativeHazard(hazard, -load.ttlSeconds) + random.exponential();
  const firstSeconds = momentOfHazard(hazard, hazardAtFirst);
  const doneSeconds = firstSeconds + busySeconds;
  const isUnrefreshed = firstSeconds > 0;

  const followersHazard = hazardBetween(hazard, firstSeconds, doneSeconds);
  const hardMissHazard = hazardBetween(hazard, Math.max(firstSeconds, 0), doneSeconds);
  const missing = samplePoisson(random, hardMissHazard);
  const followers = missing + samplePoisson(random, Math.max(followersHazard - hardMissHazard, 0));
  const recomputes = 1 + followers;
  waits.addRequests(busySeconds, recomputes);

  // The last of n events whose cumulative hazards are uniform lies at the n-th root of a uniform number.
  const lastHazard = followers === 0 ? 0 : followersHazard * random.uniform() ** (1 / followers);
  const lastSeconds = momentOfHazard(hazard, hazardAtFirst + lastHazard);
  return {
    seconds: load.ttlSeconds + lastSeconds + busySeconds,
    recomputes,
    refreshedEarlySeconds: Math.max(-firstSeconds, 0),
    isUnrefreshed,
    isHardMiss: isUnrefreshed || missing > 0,
    staleServes: 0,
    waitingProcesses: 0,
    waitingRequests: 0,
    lostClaims: 0,
    takeovers: 0,
    commands: recomputes * PLAIN_REBUILD_COMMANDS,
    messages: 0,
  };
}

/** One cycle in which each process coalesces its callers, but does not know of the other processes. */
export function playCoalescingCycle(random: Random, load: KeyLoad, waits: WaitLedger): Cycle {
  const busySeconds = load.deltaSeconds + 2 * load.roundTripSeconds;
  const processRate = load.ratePerSecond / load.processes;
  const firstSeconds = random.exponential() / load.ratePerSecond;
  const followers = sampleFirstArrivals(random, load.processes - 1, processRate, busySeconds);

  // Each process waits for its own recompute, with the callers that join it.
  const recomputes = 1 + followers.length;
  waits.addRequests(busySeconds, recomputes);
  waits.addWindow(0, busySeconds, samplePoisson(random, processRate * busySeconds * recomputes));
  const lastSeconds = followers.reduce((last, offset) => Math.max(last, offset), 0);
  return {
    seconds: load.ttlSeconds + firstSeconds + lastSeconds + busySeconds,
    recomputes,
    refreshedEarlySeconds: 0,
    isUnrefreshed: true,
    isHardMiss: true,
    staleServes: 0,
    waitingProcesses: 0,
    waitingRequests: 0,
    lostClaims: 0,
    takeovers: 0,
    commands: recomputes * PLAIN_REBUILD_COMMANDS,
    messages: 0,
  };
}
