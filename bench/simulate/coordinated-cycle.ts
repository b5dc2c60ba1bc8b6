import * as cost from "./cost-model.js";
import type { Cycle } from "./cycle.js";
import { sampleFirstArrivals } from "./first-arrivals.js";
import { type KeyLoad, refreshHazard } from "./key-load.js";
import { samplePoisson } from "./poisson.js";
import type { Random } from "./random.js";
import { cumulativeHazard, hazardBetween, momentOfHazard } from "./refresh-hazard.js";
import { countTakeovers } from "./takeovers.js";
import type { WaitLedger } from "./wait-ledger.js";

/**
 * One cycle with the lock. The first request that decides to refresh, or finds nothing it could be served, holds it until
 * its value is stored. Until expiry the others keep the value; up to `staleFor` they are served the expired one; after
 * that their processes wait.
 */
export function playCoordinatedCycle(
  random: Random,
  load: KeyLoad,
  policy: "lockOnly" | "cachefence",
  waits: WaitLedger,
): Cycle {
  const hazard = refreshHazard(load, policy);
  const processRate = load.ratePerSecond / load.processes;
  const othersShare = (load.processes - 1) / load.processes;
  const busySeconds = load.deltaSeconds + cost.HOLDER_ROUND_TRIPS * load.roundTripSeconds;
  const firstSeconds = momentOfHazard(hazard, cumulativeHazard(hazard, -load.ttlSeconds) + random.exponential());
  const storedSeconds = firstSeconds + busySeconds;

  const lostClaims = samplePoisson(
    random,
    hazardBetween(hazard, firstSeconds, Math.min(storedSeconds, 0)) * othersShare,
  );

  const staleSeconds = Math.min(storedSeconds, load.staleForSeconds) - Math.max(firstSeconds, 0);
  const staleRequests = Math.max(staleSeconds, 0) * load.ratePerSecond;
  // A process tries once at a time: after each try, the next request that comes when its reply is there.
  const triesShare = othersShare / (1 + processRate * load.roundTripSeconds);
  const staleTries = samplePoisson(random, staleRequests * triesShare);
  const staleServes = staleTries + samplePoisson(random, staleRequests * (1 - triesShare));

  const waitSeconds = Math.max(storedSeconds - Math.max(firstSeconds, load.staleForSeconds), 0);
  const arrivals = sampleFirstArrivals(random, load.processes - 1, processRate, waitSeconds);
  let polls = 0;
  let joinedSeconds = waitSeconds;
  for (const arrival of arrivals) {
    polls += Math.floor((waitSeconds - arrival) / cost.LOOK_SECONDS);
    joinedSeconds += waitSeconds - arrival;
  }
  const waiting = arrivals.length + samplePoisson(random, processRate * joinedSeconds);
  const wakeUpSeconds = cost.WAKE_UP_ROUND_TRIPS * load.roundTripSeconds;
  const isServable = firstSeconds <= load.staleForSeconds;
  if (!isServable || load.earlyRefresh === "inline") waits.addRequests(busySeconds, 1);
  waits.addWindow(wakeUpSeconds, waitSeconds + wakeUpSeconds, waiting);

  const takeovers = countTakeovers(arrivals, waitSeconds, load.waitForLockSeconds);
  const renewals = Math.floor(load.deltaSeconds / (cost.LEASE_SECONDS / 3));
  return {
    seconds: load.ttlSeconds + storedSeconds,
    recomputes: 1 + takeovers,
    refreshedEarlySeconds: Math.max(-firstSeconds, 0),
    isUnrefreshed: firstSeconds > 0,
    isHardMiss: !isServable || waiting > 0,
    staleServes,
    waitingProcesses: arrivals.length,
    waitingRequests: waiting,
    lostClaims,
    takeovers,
    commands:
      cost.HOLDER_COMMANDS +
      renewals * cost.RENEWAL_COMMANDS +
      arrivals.length * cost.WAITING_PROCESS_COMMANDS +
      polls * cost.LOOK_COMMANDS +
      takeovers * cost.TAKEOVER_COMMANDS +
      lostClaims * cost.LOST_CLAIM_COMMANDS +
      staleTries * cost.STALE_SERVE_COMMANDS,
    messages: arrivals.length * cost.WAITING_PROCESS_MESSAGES,
  };
}
