import fc from "fast-check";
import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { GuardedWrite, Write } from "../../src/protocol/guarded-write.js";
import { keysOf, script, scriptArguments } from "../../src/protocol/guarded-write.js";
import type { Word } from "./model.js";
import { ModelServer } from "./model.js";
import { describeOwnRedis } from "../support/describe-redis.js";
import type { RedisServer } from "../support/redis-server.js";
import { startRedis } from "../support/redis-server.js";

const names = { key: "k", entry: "k", lock: "k:lock", channel: "cachefence:k" };
const LONG_MS = "3600000";

/** What both are told to do: a command; to run out of memory or have it again; to forget scripts; to let a key expire. */
type Step =
  | { readonly name: string; readonly args: readonly Word[] }
  | { readonly memory: "out" | "back" }
  | { readonly flush: "scripts" }
  | { readonly expire: string };

const key = fc.constantFrom(names.lock, names.entry);
const token = fc.constantFrom("cachefence:a", "cachefence:a:1", "cachefence:b", "");
const command = (name: string, ...args: fc.Arbitrary<Word>[]): fc.Arbitrary<Step> =>
  fc.tuple(...args).map((words) => ({ name, args: words }));
const word = (text: string): fc.Arbitrary<Word> => fc.constant(text);

const write: fc.Arbitrary<Write> = fc.oneof(
  fc.constantFrom<Write>({ verb: "del", on: "lock", args: [] }, { verb: "del", on: "entry", args: [] }),
  token.map((value): Write => ({ verb: "set", on: "lock", args: [value, "PX", LONG_MS] })),
  fc.constantFrom("lock", "entry").map((on): Write => ({ verb: "pexpire", on, args: [LONG_MS] })),
  fc.uint8Array({ maxLength: 4 }).map((value): Write => {
    return { verb: "hset", on: "entry", args: ["v", Buffer.from(value), "delta", "0", "expiry", "1"] };
  }),
);

const guardedWrite: fc.Arbitrary<GuardedWrite> = fc.record(
  {
    names: fc.constant(names),
    condition: fc.oneof(
      fc.constant("any" as const),
      fc.record({ is: token }),
      fc.record({ beginsWith: fc.constantFrom("cachefence:a", "cachefence:", "x") }),
    ),
    writes: fc.array(write, { maxLength: 3 }),
    news: fc.constantFrom("stored" as const, "freed" as const),
  },
  { requiredKeys: ["names", "condition", "writes"] },
);

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: command("set", word(names.lock), token, word("PX"), word(LONG_MS), word("NX")) },
  { weight: 1, arbitrary: command("set", key, token) },
  { weight: 3, arbitrary: command("hmget", key, word("v"), word("delta"), word("expiry")) },
  { weight: 2, arbitrary: command("hset", key, fc.constantFrom("v", "other"), word("1")) },
  { weight: 2, arbitrary: command("get", key) },
  { weight: 2, arbitrary: command("pttl", key) },
  { weight: 1, arbitrary: command("pexpire", key, word(LONG_MS)) },
  { weight: 1, arbitrary: command("type", key) },
  { weight: 1, arbitrary: command("exists", key) },
  { weight: 1, arbitrary: command("hexists", key, word("v")) },
  { weight: 1, arbitrary: command("del", key) },
  { weight: 1, arbitrary: command("rpush", key, word("x")) },
  { weight: 1, arbitrary: command("time") },
  {
    weight: 12,
    arbitrary: fc.tuple(guardedWrite, fc.boolean(), fc.boolean()).map(([guarded, canPublish, bySha]): Step => {
      const keys = keysOf(guarded);
      const args = [String(keys.length), ...keys, ...scriptArguments(guarded, canPublish)];
      return bySha ? { name: "evalsha", args: [script.sha1, ...args] } : { name: "eval", args: [script.text, ...args] };
    }),
  },
  { weight: 1, arbitrary: fc.constantFrom<Step>({ memory: "out" }, { memory: "back" }, { memory: "back" }) },
  { weight: 1, arbitrary: fc.constant<Step>({ flush: "scripts" }) },
  { weight: 1, arbitrary: key.map((expire): Step => ({ expire })) },
);

describeOwnRedis("the model of Redis", () => {
  let server: RedisServer;
  let redis: Redis;
  let subscriber: Redis;
  const heard: string[] = [];

  beforeAll(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
    subscriber = redis.duplicate();
    subscriber.on("message", (_channel, message) => heard.push(message));
    await subscriber.subscribe(names.channel);
  });

  afterAll(async () => {
    redis.disconnect();
    subscriber.disconnect();
    await server.stop();
  });

  it("answers any sequence of commands as a server does", { timeout: 120_000 }, async () => {
    const property = fc.asyncProperty(fc.array(step, { maxLength: 40, size: "max" }), async (steps) => {
      await redis.config("SET", "maxmemory", "0");
      await redis.script("FLUSH");
      await redis.del(names.lock, names.entry);
      heard.length = 0;
      const model = new ModelServer(1_800_000_000_000);
      const told: string[] = [];
      model.subscribe(names.channel, { receive: (_channel, message) => told.push(message) });
      for (const one of steps) {
        const expected = await onServer(redis, one);
        expect({ step: one, reply: onModel(model, one) }).toEqual({ step: one, reply: expected });
      }
      await until(() => heard.length >= told.length);
      expect(told).toEqual(heard);
    });
    await fc.assert(property, { numRuns: 500, seed: 1 });
  });
});

async function onServer(redis: Redis, one: Step): Promise<unknown> {
  if ("memory" in one) return redis.config("SET", "maxmemory", one.memory === "out" ? "1" : "0").then(() => "ok");
  if ("flush" in one) return redis.script("FLUSH").then(() => "ok");
  if ("expire" in one) {
    await redis.pexpire(one.expire, 1);
    await sleep(3);
    return "ok";
  }
  try {
    return comparable(one.name, await redis.callBuffer(one.name, ...one.args));
  } catch (error) {
    return code(error as Error);
  }
}

function onModel(model: ModelServer, one: Step): unknown {
  if ("memory" in one) model.isOutOfMemory = one.memory === "out";
  else if ("flush" in one) model.flushScripts();
  else if ("expire" in one) {
    model.execute("pexpire", [one.expire, "1"]);
    model.nowMs += 3;
  } else {
    try {
      return comparable(one.name, model.execute(one.name, one.args));
    } catch (error) {
      return code(error as Error);
    }
  }
  return "ok";
}

/** Text instead of bytes; a time or a lease left only as what it must be. */
function comparable(name: string, reply: unknown): unknown {
  if (name === "time") return (reply as unknown[]).map((part) => /^\d+$/.test(String(part)));
  if (name === "pttl") return Number(reply) > 0 ? "a lease" : reply;
  if (Array.isArray(reply))
    return reply.map((part: unknown) => (Buffer.isBuffer(part) ? part.toString("latin1") : part));
  const text = Buffer.isBuffer(reply) ? reply.toString("latin1") : reply;
  return name.startsWith("eval") && typeof text === "string" ? codeOf(text) : text;
}

function code(error: Error): string {
  return `error ${codeOf(error.message)}`;
}

// What follows the code differs from one version to the next, and between a script and a command.
function codeOf(message: string): string {
  return /WRONGTYPE|OOM|NOSCRIPT/.exec(message)?.[0] ?? message;
}

async function until(isSo: () => boolean): Promise<void> {
  for (let left = 200; !isSo() && left > 0; left--) await sleep(5);
}
