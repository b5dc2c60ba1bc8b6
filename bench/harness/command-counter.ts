import { Redis } from "ioredis";
import { SubscriptionLedger } from "./subscription-ledger.js";

/** How often each command was sent, by its name in lower case. */
export type CommandCounts = Record<string, number>;

export interface Counted<T> {
  readonly result: T;
  readonly sent: CommandCounts;
  /** Messages that the server pushed to subscribers: one for each of them at each PUBLISH. */
  readonly pushed: number;
}

const MARKER = "cachefence-bench:counted";

/**
 * Counts the commands that clients send, by MONITOR: `INFO commandstats` would also count what a script runs inside
 * the server. MONITOR slows the server down, so nothing is timed while it counts.
 */
export async function countCommands<T>(url: string, run: () => Promise<T>): Promise<Counted<T>> {
  const redis = new Redis(url);
  // Done with its own first commands: ioredis takes what MONITOR tells in one packet with its answer for a reply.
  await redis.ping();
  const monitor = await redis.monitor();
  const sent: CommandCounts = {};
  const subscriptions = new SubscriptionLedger();
  const channels = (await redis.pubsub("CHANNELS")) as string[];
  const listeners = (await redis.pubsub("NUMSUB", ...channels)) as (string | number)[];
  channels.forEach((channel) => subscriptions.begin(channel, Number(listeners[listeners.indexOf(channel) + 1])));
  const caughtUp = new Promise<void>((resolve) => {
    monitor.on("monitor", (_time: string, [givenName = "", ...given]: string[], source: string) => {
      if (given[0] === MARKER) return resolve();
      const name = givenName.toLowerCase();
      subscriptions.follow(name, given, source);
      if (source !== "lua") sent[name] = (sent[name] ?? 0) + 1;
    });
  });
  try {
    const result = await run();
    await redis.echo(MARKER);
    await caughtUp;
    return { result, sent, pushed: subscriptions.pushed };
  } finally {
    monitor.disconnect();
    redis.disconnect();
  }
}

export function totalOf(counts: CommandCounts): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
