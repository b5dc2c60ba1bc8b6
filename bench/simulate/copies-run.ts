import * as cost from "./cost-model.js";
import { samplePoisson } from "./poisson.js";
import type { Random } from "./random.js";

export interface CopiesLoad {
  readonly processes: number;
  /** Of the whole fleet: Poisson, spread evenly over the processes. */
  readonly ratePerSecond: number;
  readonly leaseSeconds: number;
  /** One at a time, as far apart as each other; 0: none. */
  readonly fencesPerSecond: number;
  readonly deltaSeconds: number;
}

/** Of the whole fleet, for one key. */
export interface CopiesSummary {
  readonly commandsPerSecond: number;
  readonly messagesPerSecond: number;
  /** In simple commands, messages counted by their share of Redis' time. */
  readonly redisShare: number;
  /** Processes that hold a copy when a fence comes. */
  readonly holders: number;
  /** Of all requests, those that no command was sent for: from a copy, or with another of the same turn. */
  readonly withoutCommandShare: number;
}

// Of a large fleet so many are played, and stand for all.
const MOST_PLAYED = 200;

/**
 * Processes that keep copies of one hot key, through fences and leases. A request that is served from a copy changes
 * nothing and is not drawn: after a lease the next request comes as an exponential wait says.
 */
export function runCopies(random: Random, load: CopiesLoad, seconds: number): CopiesSummary {
  const played = Math.min(load.processes, MOST_PLAYED);
  const scale = load.processes / played;
  const processRate = load.ratePerSecond / load.processes;
  const fences = fenceMoments(load.fencesPerSecond, seconds);
  let [reads, enlists, claims, holders] = [0, 0, 0, 0];

  for (let process = 0; process < played; process++) {
    let now = random.exponential() / processRate;
    // Its copies begin with the second read.
    let copiedUntil = 0;
    let plainUntil = 0;
    let isKnown = false;
    for (const fence of [...fences, seconds]) {
      while (now < fence) {
        if (now < plainUntil) {
          const until = Math.min(plainUntil, fence);
          reads += plainReads(random, processRate, until - now);
          now = until + random.exponential() / processRate;
        } else if (isKnown) {
          enlists++;
          copiedUntil = now + load.leaseSeconds;
          now = copiedUntil + random.exponential() / processRate;
          // Read more than a lease after its copy ended, a key counts as new.
          isKnown = now - copiedUntil < load.leaseSeconds;
        } else {
          reads++;
          isKnown = true;
          now += random.exponential() / processRate;
        }
      }
      if (fence === seconds) break;
      if (copiedUntil > fence) holders++;
      const { least, most } = cost.UNCOPIED_LEASES;
      plainUntil = copiedUntil > fence ? fence + load.leaseSeconds * (least + (most - least) * random.uniform()) : 0;
      copiedUntil = 0;
      now = fence + random.exponential() / processRate;
      // Whoever asks before the new value is stored tries for the lock.
      if (now < fence + load.deltaSeconds) claims++;
    }
  }

  [reads, enlists, claims, holders] = [reads * scale, enlists * scale, claims * scale, holders * scale];
  const messages =
    holders * cost.FENCED_COPY_MESSAGES + Math.max(claims - fences.length, 0) * cost.WAITING_PROCESS_MESSAGES;
  const scripts = enlists * cost.ENLIST_COMMANDS + claims * cost.CLAIM_COMMANDS + fences.length * cost.FENCE_COMMANDS;
  const commands = reads + scripts + fences.length + holders * cost.FENCED_COPY_COMMANDS;
  const weight =
    reads +
    scripts * cost.SCRIPT_WEIGHT +
    fences.length * cost.STORE_SCRIPT_WEIGHT +
    holders * cost.FENCED_COPY_COMMANDS;
  const busySeconds = weight / cost.PRIMARY_COMMANDS_PER_SECOND + messages / cost.PRIMARY_MESSAGES_PER_SECOND;
  return {
    commandsPerSecond: commands / seconds,
    messagesPerSecond: messages / seconds,
    redisShare: busySeconds / seconds,
    holders: fences.length === 0 ? 0 : holders / fences.length,
    withoutCommandShare: 1 - Math.min((reads + enlists) / (load.ratePerSecond * seconds), 1),
  };
}

function fenceMoments(perSecond: number, seconds: number): number[] {
  return Array.from({ length: Math.floor(perSecond * seconds) }, (_, i) => (i + 0.5) / perSecond);
}

/** Requests of one turn share a read. */
function plainReads(random: Random, processRate: number, seconds: number): number {
  const turns = cost.TURNS_PER_SECOND;
  const perSecond = turns * -Math.expm1(-processRate / turns);
  return samplePoisson(random, perSecond * seconds);
}
