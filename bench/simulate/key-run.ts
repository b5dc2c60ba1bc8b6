import { playCoordinatedCycle } from "./coordinated-cycle.js";
import type { Cycle } from "./cycle.js";
import type { KeyLoad, Policy } from "./key-load.js";
import type { Random } from "./random.js";
import { playCoalescingCycle, playUncoordinatedCycle } from "./uncoordinated-cycle.js";
import { WaitLedger } from "./wait-ledger.js";

/** Averages over the cycles of one key. Times are seconds, counts are per cycle unless their name says otherwise. */
export interface KeySummary {
  readonly cycles: number;
  readonly cycleSeconds: number;
  readonly recomputes: number;
  readonly recomputesP99: number;
  readonly recomputesMost: number;
  readonly refreshedEarlySeconds: number;
  /** Share of the cycles in which no refresh had started by expiry. */
  readonly unrefreshedShare: number;
  /** Share of the cycles in which some request found no value that it could be served. */
  readonly hardMissShare: number;
  readonly staleServes: number;
  /** Requests that waited for a recompute, their own or another's. */
  readonly waits: number;
  /** Share of all requests that waited. */
  readonly waitShare: number;
  readonly waitMeanSeconds: number;
  readonly waitP50Seconds: number;
  readonly waitP99Seconds: number;
  readonly waitingProcesses: number;
  readonly lostClaims: number;
  readonly takeovers: number;
  /** Redis commands per cycle, one read per request that was simply served not counted. */
  readonly commands: number;
  readonly commandsMost: number;
  readonly messages: number;
  readonly messagesMost: number;
}

export function runKey(random: Random, load: KeyLoad, policy: Policy, cycles: number): KeySummary {
  const waits = new WaitLedger();
  const played = Array.from({ length: cycles }, () => playCycle(random, load, policy, waits));
  const mean = (valueOf: (cycle: Cycle) => number) => played.reduce((sum, cycle) => sum + valueOf(cycle), 0) / cycles;
  const most = (valueOf: (cycle: Cycle) => number) => played.reduce((top, cycle) => Math.max(top, valueOf(cycle)), 0);
  const recomputesInOrder = Float64Array.from(played, (cycle) => cycle.recomputes).sort();
  const cycleSeconds = mean((cycle) => cycle.seconds);
  return {
    cycles,
    cycleSeconds,
    recomputes: mean((cycle) => cycle.recomputes),
    recomputesP99: recomputesInOrder[Math.ceil(cycles * 0.99) - 1] ?? 0,
    recomputesMost: most((cycle) => cycle.recomputes),
    refreshedEarlySeconds: mean((cycle) => cycle.refreshedEarlySeconds),
    unrefreshedShare: mean((cycle) => Number(cycle.isUnrefreshed)),
    hardMissShare: mean((cycle) => Number(cycle.isHardMiss)),
    staleServes: mean((cycle) => cycle.staleServes),
    waits: waits.requests / cycles,
    waitShare: Math.min(waits.requests / cycles / (load.ratePerSecond * cycleSeconds), 1),
    waitMeanSeconds: waits.meanSeconds(),
    waitP50Seconds: waits.quantileSeconds(0.5),
    waitP99Seconds: waits.quantileSeconds(0.99),
    waitingProcesses: mean((cycle) => cycle.waitingProcesses),
    lostClaims: mean((cycle) => cycle.lostClaims),
    takeovers: mean((cycle) => cycle.takeovers),
    commands: mean((cycle) => cycle.commands),
    commandsMost: most((cycle) => cycle.commands),
    messages: mean((cycle) => cycle.messages),
    messagesMost: most((cycle) => cycle.messages),
  };
}

export function playCycle(random: Random, load: KeyLoad, policy: Policy, waits: WaitLedger): Cycle {
  switch (policy) {
    case "naive":
    case "xfetchOnly":
      return playUncoordinatedCycle(random, load, policy, waits);
    case "coalescing":
      return playCoalescingCycle(random, load, waits);
    case "lockOnly":
    case "cachefence":
      return playCoordinatedCycle(random, load, policy, waits);
  }
}
