import { Redis } from "ioredis";

/** How often each command was sent, by its name in lower case. */
export type CommandCounts = Record<string, number>;

const MARKER = "cachefence-bench:counted";

/**
 * Counts the commands that clients send, by MONITOR: `INFO commandstats` would also count what a script runs inside
 * the server. MONITOR slows the server down, so nothing is timed while it counts.
 */
export async function countCommands<T>(
  url: string,
  run: () => Promise<T>,
): Promise<{ result: T; sent: CommandCounts }> {
  const redis = new Redis(url);
  await redis.ping();
  const monitor = await redis.monitor();
  const sent: CommandCounts = {};
  const caughtUp = new Promise<void>((resolve) => {
    monitor.on("monitor", (_time: string, [name = "", firstArgument]: string[], source: string) => {
      if (firstArgument === MARKER) resolve();
      else if (source !== "lua") sent[name.toLowerCase()] = (sent[name.toLowerCase()] ?? 0) + 1;
    });
  });
  try {
    const result = await run();
    await redis.echo(MARKER);
    await caughtUp;
    return { result, sent };
  } finally {
    monitor.disconnect();
    redis.disconnect();
  }
}

export function totalOf(counts: CommandCounts): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
