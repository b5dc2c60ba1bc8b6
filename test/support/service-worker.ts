// A process of a fleet: does what the test asks for, see service.ts.
import * as scripts from "../../src/protocol/scripts.js";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { CacheFence, RecomputeError, type RecomputeContext } from "cachefence";
import type { Redis } from "ioredis";
import { majors } from "./ioredis.js";
import type {
  CommandName,
  Commands,
  FencePlan,
  FromService,
  HistoryPlan,
  LoggedRead,
  ReadEntry,
  RecomputePlan,
  Result,
  ServicePlan,
  Snag,
  ToService,
} from "./service-messages.js";

interface Opened {
  readonly plan: ServicePlan;
  readonly client: Redis;
  /** The source's own connection: the counters are not traffic of the cache. */
  readonly database: Redis;
  readonly cache: CacheFence;
}

const COUNT_START = `
local now = redis.call("HINCRBY", KEYS[1], "now", 1)
redis.call("HINCRBY", KEYS[1], "starts", 1)
if now > tonumber(redis.call("HGET", KEYS[1], "most") or "0") then redis.call("HSET", KEYS[1], "most", now) end
return now`;

let opened: Opened | undefined;
let isReading = false;
let recomputes = 0;
let deliverRead: () => void = () => undefined;
const gates = new Map<number, (end: { value: unknown; error?: string }) => void>();

function send(message: FromService): void {
  process.send?.(message);
}

function current(): Opened {
  if (opened === undefined) throw new Error("The service was not opened");
  return opened;
}

function open(plan: ServicePlan): null {
  opened?.client.disconnect();
  opened?.database.disconnect();
  const major = majors.find(({ name }) => name === plan.major);
  if (major === undefined) throw new Error(`ioredis ${plan.major} is left out by IOREDIS_MAJOR`);
  const client = new major.Redis(plan.url, { connectionName: plan.connectionName });
  const database = new major.Redis(plan.url);
  for (const one of [client, database]) one.on("error", () => undefined);
  const { memory, ...options } = plan.options;
  const store = memory === undefined ? undefined : new Map<string, unknown>();
  opened = { plan, client, database, cache: new CacheFence(client, { ...options, memory: store }) };
  return null;
}

async function recompute(plan: RecomputePlan, key: string): Promise<unknown> {
  const { database, plan: service } = current();
  await database.eval(COUNT_START, 1, service.counter);
  try {
    return await runRecompute(plan, key);
  } finally {
    await database.multi().hincrby(service.counter, "now", -1).hincrby(service.counter, "ends", 1).exec();
  }
}

async function runRecompute(plan: RecomputePlan, key: string): Promise<unknown> {
  if (plan.kind === "gated") {
    const number = ++recomputes;
    const ended = new Promise<{ value: unknown; error?: string }>((resolve) => gates.set(number, resolve));
    send({ type: "recompute-started", recompute: number, key });
    const { value, error } = await ended;
    gates.delete(number);
    if (error !== undefined) throw new Error(error);
    return value;
  }
  await sleep(plan.afterMs);
  if (plan.kind === "throws") throw new Error(plan.message);
  return plan.value;
}

async function getOrSet(ask: Commands["getOrSet"]["ask"]): Promise<Result[]> {
  const { cache } = current();
  const { key, ttl, callers, options } = ask;
  const source = (_: RecomputeContext) => recompute(ask.recompute, key);
  return Promise.all(
    Array.from({ length: callers }, async (): Promise<Result> => {
      try {
        return { value: await cache.getOrSet(key, ttl, source, options) };
      } catch (thrown) {
        const error = thrown as Error;
        const cause = error.cause instanceof Error ? error.cause.message : undefined;
        return { error: { name: error.name, message: error.message, cause } };
      }
    }),
  );
}

async function getOrSetEntry({ key, times, tags }: Commands["getOrSetEntry"]["ask"]): Promise<ReadEntry[]> {
  const entries: ReadEntry[] = [];
  for (let count = 0; count < times; count++) {
    const source = () => recompute({ kind: "gated" }, key);
    const entry = await current().cache.getOrSetEntry(key, 60, source, { tags });
    entries.push({ value: entry.value, source: entry.source });
  }
  return entries;
}

async function fence(plan: FencePlan): Promise<string> {
  const { cache } = current();
  if ("keys" in plan) await cache.invalidate(plan.keys);
  else if ("tags" in plan) await cache.invalidateTags(plan.tags);
  else await cache.set(plan.key, plan.ttl, plan.value);
  return String(process.hrtime.bigint());
}

function snag({ on, isSent }: Snag): null {
  const client = current().client as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
  const script = on === "claim" ? scripts.claim : scripts.store;
  for (const command of ["eval", "evalsha"]) {
    const original = client[command]?.bind(client);
    if (original === undefined) throw new Error(`The client has no ${command}`);
    client[command] = (...args) => {
      if (args[0] !== script.text && args[0] !== script.sha1) return original(...args);
      const tell = (): void => send({ type: "snagged" });
      if (isSent) void original(...args).then(tell);
      else tell();
      return new Promise(() => undefined);
    };
  }
  return null;
}

function withholdRead(): null {
  const { client } = current();
  const original = client.hmgetBuffer.bind(client) as (...args: string[]) => Promise<unknown>;
  const withheld = async (...args: string[]): Promise<unknown> => {
    client.hmgetBuffer = original as typeof client.hmgetBuffer;
    const delivered = new Promise<void>((resolve) => (deliverRead = resolve));
    const reply = await original(...args);
    send({ type: "snagged" });
    await delivered;
    return reply;
  };
  client.hmgetBuffer = withheld as typeof client.hmgetBuffer;
  return null;
}

async function readUntilStopped({ keys, readers, source, tags }: HistoryPlan): Promise<LoggedRead[]> {
  const { cache, database } = current();
  const log: LoggedRead[] = [];
  isReading = true;
  const read = async (index: number): Promise<void> => {
    const key = keys[index] ?? "";
    const beganNs = process.hrtime.bigint();
    const query = async (): Promise<number> => {
      // On either side of it there is time for an invalidate.
      await sleep(Math.random() * 4);
      const found = Number(await database.get(source + key));
      await sleep(Math.random() * 4);
      return found;
    };
    try {
      log.push([index, String(beganNs), await cache.getOrSet(key, 60, query, { tags: tags?.[index] })]);
    } catch (error) {
      // The source's own connection was cut: no value, no read.
      if (!(error instanceof RecomputeError)) throw error;
    }
  };
  const reader = async (number: number): Promise<void> => {
    for (let turn = number; isReading; turn++) {
      await read(turn % keys.length);
      await sleep(Math.random() * 3);
    }
  };
  await Promise.all(Array.from({ length: readers }, (_, number) => reader(number)));
  return log;
}

function block(untilFile: string): null {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  while (!existsSync(untilFile)) Atomics.wait(cell, 0, 0, 10);
  return null;
}

function residue(): Commands["residue"]["answer"] {
  const { client } = current();
  (globalThis as { gc?: () => void }).gc?.();
  return {
    listeners: client.eventNames().reduce((sum, name) => sum + client.listenerCount(name), 0),
    timers: process.getActiveResourcesInfo().filter((name) => name === "Timeout").length,
    heapBytes: process.memoryUsage().heapUsed,
  };
}

const handlers: { [N in CommandName]: (ask: Commands[N]["ask"]) => unknown } = {
  open: ({ plan }) => open(plan),
  getOrSet,
  getOrSetEntry,
  fence: (ask) => fence(ask.fence),
  invalidate: ({ keys }) => current().cache.invalidate(...keys),
  set: ({ key, ttl, value }) => current().cache.set(key, ttl, value),
  stats: () => current().cache.stats(),
  idle: () => current().cache.idle(),
  snag: (ask) => snag(ask.snag),
  withholdRead: () => withholdRead(),
  deliverRead: () => {
    deliverRead();
  },
  block: ({ untilFile }) => block(untilFile),
  readUntilStopped: ({ plan }) => readUntilStopped(plan),
  stopReading: () => {
    isReading = false;
  },
  residue,
  retire: () => {
    current().client.disconnect();
    current().database.disconnect();
    setImmediate(() => process.disconnect());
  },
};

async function answer({ id, name, ask }: Extract<ToService, { type: "ask" }>): Promise<void> {
  try {
    const handle = handlers[name] as (ask: unknown) => unknown;
    send({ type: "answer", id, answer: (await handle(ask)) ?? null });
  } catch (error) {
    send({ type: "failed", id, message: error instanceof Error ? String(error.stack) : String(error) });
  }
}

process.on("message", (received) => {
  const message = received as ToService;
  if (message.type === "ask") void answer(message);
  else gates.get(message.recompute)?.(message);
});
process.on("unhandledRejection", (reason) => {
  send({ type: "unhandled", message: reason instanceof Error ? String(reason.stack) : String(reason) });
});
send({ type: "ready" });
