import type { KeyLoad } from "./key-load.js";
import type { Random } from "./random.js";

/**
 * One cycle drawn the slow and plain way, for the tests: every request is drawn and applies the rule by itself, a process
 * chosen for each. Without network time, `staleFor` and takeovers.
 */
export function playRequestByRequest(random: Random, load: KeyLoad) {
  let atSeconds = -load.ttlSeconds;
  let holder: { readonly process: number; readonly sinceSeconds: number } | undefined;
  let uncoordinatedRecomputes = 0;
  let lostClaims = 0;
  let expiredRequests = 0;
  let waitingRequests = 0;
  const waiting = new Set<number>();
  for (;;) {
    atSeconds += random.exponential() / load.ratePerSecond;
    if (holder !== undefined && atSeconds >= holder.sinceSeconds + load.deltaSeconds) break;
    const process = Math.floor(random.uniform() * load.processes) % load.processes;
    const shouldRefresh = atSeconds - load.deltaSeconds * load.beta * Math.log(random.uniform()) >= 0;
    if (!shouldRefresh) continue;
    uncoordinatedRecomputes++;
    if (atSeconds >= 0) expiredRequests++;
    if (holder === undefined) holder = { process, sinceSeconds: atSeconds };
    else if (atSeconds >= 0) {
      waitingRequests++;
      if (process !== holder.process) waiting.add(process);
    } else if (process !== holder.process) lostClaims++;
  }
  return {
    uncoordinatedRecomputes,
    refreshedEarlySeconds: Math.max(-holder.sinceSeconds, 0),
    isHardMiss: expiredRequests > 0,
    lostClaims,
    waitingProcesses: waiting.size,
    waitingRequests,
  };
}
