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
  /** How waiters learn of the store: `push` with the safety poll, or the fallback poll alone. */
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
  isSubscribed: boolean;
  isDone: boolean;
  pauseSeconds: number;
}

/** What reaches Redis, and for whom. */
type Step = "read" | "claim" | "subscribe" | "look" | "store" | "readWoken" | "unsubscribe";

/**
 * Every process of a fleet asks for one cold key at about the same time: after a deploy, a flush, an invalidate of a hot
 * key. Each command is an event at one single-threaded primary, so what the burst costs in time shows as queueing.
 */
export function playBurst(random: Random, settings: BurstSettings): Burst {
  const halfTripSeconds = settings.roundTripSeconds / 2;
  const primary = new RedisPrimary();
  const arrivals = new EventQueue<{ readonly step: Step; readonly process: Process }>();
  const subscribed: Process[] = [];
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
    if (process.isSubscribed) send(atSeconds, "unsubscribe", process);
  };
  const nextPauseSeconds = (process: Process): number => {
    if (process.isSubscribed) return cost.SAFETY_POLL_SECONDS;
    const pauseSeconds = process.pauseSeconds;
    process.pauseSeconds = Math.min(
      pauseSeconds * cost.FALLBACK_POLL_SECONDS.factor,
      cost.FALLBACK_POLL_SECONDS.longest,
    );
    return pauseSeconds;
  };

  for (let started = 0; started < settings.processes; started++) {
    const process = { isSubscribed: false, isDone: false, pauseSeconds: cost.FALLBACK_POLL_SECONDS.first };
    send(random.uniform() * settings.spreadSeconds, "read", process);
  }

  for (let arrival = arrivals.next(); arrival !== undefined; arrival = arrivals.next()) {
    const { atSeconds } = arrival;
    const { step, process } = arrival.event;
    const replySeconds = (commands: number): number => primary.serve(atSeconds, commands) + halfTripSeconds;
    switch (step) {
      case "read": {
        const repliedSeconds = replySeconds(cost.READ_COMMANDS);
        if (isStored) finish(repliedSeconds, process);
        else send(repliedSeconds, "claim", process);
        break;
      }
      case "claim": {
        const repliedSeconds = replySeconds(cost.CLAIM_COMMANDS);
        if (isStored) finish(repliedSeconds, process);
        else if (isClaimed) send(repliedSeconds, settings.wakeUp === "push" ? "subscribe" : "look", process);
        else {
          isClaimed = true;
          storeSentSeconds = repliedSeconds + settings.deltaSeconds;
          send(storeSentSeconds, "store", process);
        }
        break;
      }
      case "subscribe": {
        const repliedSeconds = replySeconds(1);
        process.isSubscribed = true;
        subscribed.push(process);
        send(repliedSeconds, "look", process);
        break;
      }
      case "look": {
        // Woken in the meantime: this is the safety poll of somebody who waits no longer.
        if (process.isDone) break;
        const repliedSeconds = replySeconds(cost.LOOK_COMMANDS);
        if (isStored) finish(repliedSeconds, process);
        else send(repliedSeconds + nextPauseSeconds(process), "look", process);
        break;
      }
      case "store": {
        const published = primary.storeAndPublish(atSeconds, subscribed.length);
        isStored = true;
        storedSeconds = published.storedSeconds;
        process.isDone = true;
        valuesSeconds.push(storedSeconds + halfTripSeconds);
        subscribed.forEach((waiter, place) => {
          const handedSeconds = storedSeconds + (place + 1) * published.messageSeconds;
          if (!waiter.isDone) send(handedSeconds + halfTripSeconds, "readWoken", waiter);
        });
        break;
      }
      case "readWoken":
        if (!process.isDone) finish(replySeconds(cost.READ_COMMANDS), process);
        break;
      case "unsubscribe":
        primary.serve(atSeconds, 1);
        break;
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
