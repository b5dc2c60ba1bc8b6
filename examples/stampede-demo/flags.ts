import { parseArgs } from "node:util";

export interface DemoOptions {
  readonly callers: number;
  readonly latencyMs: number;
  readonly processes: number;
  readonly ttlSeconds: number;
}

/** The flags make no sense; the message says which and why. */
export class UsageError extends Error {}

const MS_PER_SECOND = 1000;
// Early refresh sets in a few query times before the expiry; with a shorter life than this it would set in at once.
const MIN_QUERIES_PER_TTL = 10;

export const helpText = `Usage: npm run demo -- [flags]

Shows what happens when many callers ask for one cached value that is not there:
first in one process, then in several, then around the expiry of a hot key;
and what is left of the reads when processes keep copies in memory.

  --callers <n>     callers at once in act 1; half as many in each process
                    in act 2 (2 to 20000, default 500)
  --latency <ms>    time that one database query takes (1 to 2000, default 50)
  --processes <n>   processes in act 2 (2 to 16, default 4)
  --ttl <seconds>   life of the hot key in act 3, at least ${MIN_QUERIES_PER_TTL} times the latency
                    (0.1 to 60, default 2, longer if the latency asks for it)
  --help            this text

Redis: REDIS_URL if set, else localhost:6379 if a server answers there, else
redis-server or valkey-server from PATH, else one in memory. Only keys that the
demo itself has made are removed.`;

export function parseFlags(args: readonly string[]): DemoOptions | "help" {
  const flags = readFlags(args);
  if (flags.help) return "help";
  const latencyMs = numberFlag("latency", flags.latency ?? "50", { min: 1, max: 2_000, whole: false });
  const shortestTtlSeconds = (MIN_QUERIES_PER_TTL * latencyMs) / MS_PER_SECOND;
  const ttl = flags.ttl ?? String(Math.max(2, shortestTtlSeconds));
  const ttlSeconds = numberFlag("ttl", ttl, { min: 0.1, max: 60, whole: false });
  if (ttlSeconds < shortestTtlSeconds) {
    throw new UsageError(
      `Expected --ttl to be at least ${shortestTtlSeconds} (${MIN_QUERIES_PER_TTL} times the latency), got ${ttlSeconds}`,
    );
  }
  return {
    callers: numberFlag("callers", flags.callers ?? "500", { min: 2, max: 20_000, whole: true }),
    latencyMs,
    processes: numberFlag("processes", flags.processes ?? "4", { min: 2, max: 16, whole: true }),
    ttlSeconds,
  };
}

function readFlags(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        callers: { type: "string" },
        latency: { type: "string" },
        processes: { type: "string" },
        ttl: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

interface Allowed {
  readonly min: number;
  readonly max: number;
  readonly whole: boolean;
}

function numberFlag(name: string, text: string, { min, max, whole }: Allowed): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max && (!whole || Number.isInteger(value))) return value;
  const kind = whole ? "a whole number" : "a number";
  throw new UsageError(`Expected --${name} to be ${kind} from ${min} to ${max}, got "${text}"`);
}
