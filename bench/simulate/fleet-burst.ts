import * as cost from "./cost-model.js";
import { EventQueue } from "./event-queue.js";
import type { Random } from "./random.js";
import { RedisPrimary } from "./redis-primary.js";

export interface BurstSettings {
  readonly processes: number;
  readonly deltaSeconds: number;
  /** The first callers of the processes come within this time. */
  readonly spreadSeconds: number;
  readonly roundTripSeconds: number;
  /** How waiters learn of the store: `push`, by a message with the value in it, or by looking alone. */
  readonly wakeUp: "push" | "poll";
}

/** One cold rebuild with every process of the fleet waiting for it. */
export interface Burst {
  readonly commands: number;
  readonly messages: number;
  readonly waitingProcesses: number;
  readonly redisBusySeconds: number;
  /** From the holder's recompute ending to the stored entry: the store queues behind whatever the waiters send. */
  readonly storeSeconds: number;
  /** From the stored entry to a waiter's value. */
  readonly wakeUpP50Seconds: number;
  readonly wakeUpP99Seconds: number;
  readonly wakeUpMostSeconds: number;
  /** From the first caller to the last value. */
  readonly lastValueSeconds: number;
}

interface Process {
  isDone: boolean;
  pauseSeconds: number;
}

/** What reaches Redis, and for whom. A waiter looks by claiming again. */
type Step = "read" | "claim" | "store";

/**
 * Every process of a fleet asks for one cold key at about the same time: after a deploy, a flush, an invalidate of a hot
 * key. Each command is an event at one single-threaded primary, so what the burst costs in time shows as queueing.
 */
export function playBurst(random: Random, settings: BurstSettings): Burst {
  const halfTripSeconds = settings.roundTripSeconds / 2;
  const primary = new RedisPrimary();
  const arrivals = new EventQueue<{ readonly step: Step; readonly process: Process }>();
  const audience = new Set<Process>();
  const valuesSeconds: number[] = [];
  let isClaimed = false;
  // From the store's arrival on: whatever arrives later is served after it.
  let isStored = false;
  let storeSentSeconds = 0;
  let storedSeconds = 0;

  const send = (sentSeconds: number, step: Step, process: Process): void => {
    arrivals.add(sentSeconds + halfTripSeconds, { step, process });
  };
  const finish = (atSeconds: number, process: Process): void => {
    if (process.isDone) return;
    process.isDone = true;
    valuesSeconds.push(atSeconds);
  };
  const nextPauseSeconds = (process: Process): number => {
    if (settings.wakeUp === "push") return cost.LOOK_SECONDS;
    const pauseSeconds = process.pauseSeconds;
    process.pauseSeconds = Math.min(
      pauseSeconds * cost.FALLBACK_POLL_SECONDS.factor,
      cost.FALLBACK_POLL_SECONDS.longest,
    );
    return pauseSeconds;
  };

  for (let started = 0; started < settings.processes; started++) {
    const process = { isDone: false, pauseSeconds: cost.FALLBACK_POLL_SECONDS.first };
    send(random.uniform() * settings.spreadSeconds, "read", process);
  }

  for (let arrival = arrivals.next(); arrival !== undefined; arrival = arrivals.next()) {
    const { atSeconds } = arrival;
    const { step, process } = arrival.event;
    // Its value has come by message meanwhile: it does not look any more.
    if (process.isDone) continue;
    switch (step) {
      case "read": {
        const repliedSeconds = primary.serve(atSeconds) + halfTripSeconds;
        if (isStored) finish(repliedSeconds, process);
        else send(repliedSeconds, "claim", process);
        break;
      }
      case "claim": {
        const repliedSeconds = primary.serve(atSeconds, cost.SCRIPT_WEIGHT) + halfTripSeconds;
        if (isStored) send(repliedSeconds, "read", process);
        else if (!isClaimed) {
          isClaimed = true;
          storeSentSeconds = repliedSeconds + settings.deltaSeconds;
          send(storeSentSeconds, "store", process);
        } else {
          if (settings.wakeUp === "push") audience.add(process);
          send(repliedSeconds + nextPauseSeconds(process), "claim", process);
        }
        break;
      }
      case "store": {
        const published = primary.storeAndPublish(atSeconds, audience.size);
        isStored = true;
        storedSeconds = published.storedSeconds;
        finish(storedSeconds + halfTripSeconds, process);
        [...audience].forEach((waiter, place) => {
          finish(storedSeconds + (place + 1) * published.messageSeconds + halfTripSeconds, waiter);
        });
        break;
      }
    }
  }

  valuesSeconds.sort((one, other) => one - other);
  const wakeUp = (share: number): number => {
    const value = valuesSeconds[Math.max(Math.ceil(valuesSeconds.length * share) - 1, 0)];
    return settings.processes === 1 || value === undefined ? 0 : value - storedSeconds;
  };
  return {
    commands: primary.commands,
    messages: primary.messages,
    waitingProcesses: settings.processes - 1,
    redisBusySeconds: primary.busySeconds,
    storeSeconds: storedSeconds - storeSentSeconds,
    wakeUpP50Seconds: wakeUp(0.5),
    wakeUpP99Seconds: wakeUp(0.99),
    wakeUpMostSeconds: wakeUp(1),
    lastValueSeconds: valuesSeconds.at(-1) ?? 0,
  };
}
