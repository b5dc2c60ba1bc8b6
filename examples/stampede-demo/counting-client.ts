import { Redis } from "ioredis";
import type { DemoServer } from "./server-choice.js";

const CONNECT_TIMEOUT_MS = 3_000;

/** A client, and how many commands it and the connections made from it have sent since it was ready. */
export interface CountingClient {
  readonly redis: Redis;
  readonly sent: { commands: number };
}

/**
 * Counts where the client sends. The server's own counters would take in other clients' commands and those that a script
 * runs; here a script is one command, which is what costs a round trip. A connection that cachefence opens beside the
 * client's is a `duplicate()` of it: its commands count as well, those of its handshake included.
 */
export async function connectCounting(server: DemoServer): Promise<CountingClient> {
  const sent = { commands: 0 };
  if (server.kind === "memory") {
    const { default: RedisMock } = await import("ioredis-mock");
    return { redis: countInMemory(new RedisMock(), sent), sent };
  }
  const redis = new Redis(server.url, {
    lazyConnect: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    retryStrategy: () => null,
  });
  let failure: Error | undefined;
  redis.on("error", (error: Error) => (failure = error));
  try {
    await redis.connect();
  } catch (error) {
    throw new Error(`Cannot connect to Redis, ${server.description}: ${describe(failure ?? error)}`, { cause: error });
  }
  return { redis: countSent(redis, sent), sent };
}

function countSent(redis: Redis, sent: { commands: number }): Redis {
  const sendCommand = redis.sendCommand.bind(redis);
  // A command that waited for the connection passes here a second time.
  const counted = new WeakSet<object>();
  redis.sendCommand = (command, stream) => {
    if (!counted.has(command)) sent.commands += 1;
    counted.add(command);
    return sendCommand(command, stream);
  };
  const duplicate = redis.duplicate.bind(redis);
  redis.duplicate = (override) => countSent(duplicate(override), sent);
  return redis;
}

// The mock sends nothing: its commands are methods of each instance. Its scripts call them on the instance itself and not
// through the proxy, so that here, too, a script is one command.
function countInMemory(redis: Redis, sent: { commands: number }): Redis {
  return new Proxy(redis, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== "function") return member;
      if (name === "duplicate") {
        return (...overrides: Parameters<Redis["duplicate"]>) => countInMemory(target.duplicate(...overrides), sent);
      }
      const isCommand = Object.hasOwn(target, name);
      return (...args: unknown[]): unknown => {
        if (isCommand) sent.commands += 1;
        return Reflect.apply(member, target, args);
      };
    },
  });
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // An AggregateError of several addresses has no message of its own.
  return error.message || ("code" in error ? String(error.code) : error.name);
}
