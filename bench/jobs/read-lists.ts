import { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { OpenCache } from "../contender.js";
import { machineMs } from "../harness/clock.js";
import { sampleValue } from "./sample-value.js";

export interface ReadListsInput {
  /** One list after the other, each of so many keys. */
  readonly lists: readonly (readonly string[])[];
  readonly recomputeMs: number;
  readonly ttlSeconds: number;
  /** Whether the contender's own way to read a list is used, or one call for each key, all at once. */
  readonly asList: boolean;
}

export interface ReadListsOutput {
  readonly latenciesMs: readonly number[];
  readonly recomputeCalls: number;
  /** Buffers handed to the system for a socket: each is one write to Redis. */
  readonly writes: number;
}

interface Writable {
  _write: (...args: unknown[]) => void;
  _writev: (...args: unknown[]) => void;
}

/** Reads lists, one after the other, and counts what they send. */
export async function readLists(cache: OpenCache, input: ReadListsInput): Promise<ReadListsOutput> {
  const { recomputeMs, ttlSeconds, asList } = input;
  const latenciesMs: number[] = [];
  let recomputeCalls = 0;
  const recompute = async <T>(missing: readonly string[]): Promise<T[]> => {
    recomputeCalls++;
    await sleep(recomputeMs);
    return missing.map(() => sampleValue(300) as T);
  };
  const readList = async (keys: readonly string[]): Promise<void> => {
    if (!asList) {
      const one = async (key: string): Promise<unknown> => (await recompute([key]))[0];
      await Promise.all(keys.map((key) => cache.get(key, ttlSeconds, () => one(key))));
    } else if (cache.getMany) await cache.getMany(keys, ttlSeconds, recompute);
    else throw new Error("This contender has no way of its own to read a list");
  };

  const writes = await countWrites(async () => {
    for (const list of input.lists) {
      const startedAtMs = machineMs();
      await readList(list);
      latenciesMs.push(machineMs() - startedAtMs);
    }
  });
  return { latenciesMs, recomputeCalls, writes };
}

async function countWrites(run: () => Promise<void>): Promise<number> {
  const sockets = Socket.prototype as unknown as Writable;
  const { _write, _writev } = sockets;
  let writes = 0;
  const counting = (original: Writable["_write"]) =>
    function (this: unknown, ...args: unknown[]): void {
      writes++;
      original.apply(this, args);
    };
  sockets._write = counting(_write);
  sockets._writev = counting(_writev);
  try {
    await run();
  } finally {
    Object.assign(sockets, { _write, _writev });
  }
  return writes;
}
