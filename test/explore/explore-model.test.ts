import fc from "fast-check";
import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import * as scripts from "../../src/protocol/scripts.js";
import type { Word } from "./model.js";
import { ModelServer } from "./model.js";
import { describeOwnRedis } from "../support/describe-redis.js";
import type { RedisServer } from "../support/redis-server.js";
import { startRedis } from "../support/redis-server.js";

const names = { entry: "k", lock: "k:lock", audience: "k:audience", tag: "t:tag" };
const LONG_MS = "3600000";
const MEMBER = "f".repeat(16);
const OTHER = "e".repeat(16);

/** What both are told to do: a command; to run out of memory or have it again; to forget scripts; to let a key expire. */
type Step =
  | { readonly name: string; readonly args: readonly Word[] }
  | { readonly memory: "out" | "back" }
  | { readonly flush: "scripts" }
  | { readonly expire: string };

const key = fc.constantFrom(names.lock, names.entry);
const part = fc.constantFrom(`L${MEMBER}-a`, `L${OTHER}-b`, `N${OTHER}-c`);
const token = fc.oneof(
  part.map((one) => `cachefence:${one}`),
  fc.tuple(part, part).map(([one, other]) => `cachefence:${one}:${other}`),
  fc.constantFrom(`cachefence:L${OTHER}-b:P`, "0123456789abcdef", ""),
);
const command = (name: string, ...args: fc.Arbitrary<Word>[]): fc.Arbitrary<Step> =>
  fc.tuple(...args).map((words) => ({ name, args: words }));
const word = (text: string): fc.Arbitrary<Word> => fc.constant(text);
const tags = fc.constantFrom("", "", "a-1-2");
const bytes = fc.uint8Array({ maxLength: 4 }).map((value) => Buffer.from(value));
const expiry = fc.constantFrom("4000000000", "4000000001", "1");
const member = fc.constantFrom(`w${MEMBER}`, `w${OTHER}`, `c${MEMBER}:1000`, `c${OTHER}:60000`);

const three = [names.lock, names.entry, names.audience];
const script = (
  name: keyof typeof scripts & ("claim" | "store" | "free" | "renew" | "fence" | "enlist" | "tag"),
  keys: readonly string[],
  ...args: fc.Arbitrary<Word | readonly Word[]>[]
): fc.Arbitrary<Step> =>
  fc.tuple(fc.boolean(), ...args).map(([bySha, ...words]): Step => {
    const { sha1, text } = scripts[name];
    const flat: Word[] = words.flat();
    return { name: bySha ? "evalsha" : "eval", args: [bySha ? sha1 : text, String(keys.length), ...keys, ...flat] };
  });

const claims = fc
  .record({
    one: part,
    purpose: fc.constantFrom("fill", "refresh"),
    atHand: fc.constantFrom(["", ""], ["0", "4000000000"]),
    tags,
    outwaited: fc.oneof(fc.constant(""), token),
    silent: fc.oneof(fc.constant(""), token),
    seesSilence: fc.constantFrom("0", "1"),
    isBlind: fc.constantFrom("0", "0", "1"),
  })
  .map((wish): Word[] => [
    ...[`cachefence:${wish.one}`, wish.one, LONG_MS, wish.purpose, ...wish.atHand, wish.tags, wish.outwaited],
    ...[wish.silent, `w${MEMBER}`, LONG_MS, wish.seesSilence, wish.isBlind],
  ]);
const entry = fc.tuple(bytes, word("0"), expiry, tags, word(LONG_MS));

const scriptRun = fc.oneof(
  { weight: 5, arbitrary: script("claim", three, claims) },
  { weight: 3, arbitrary: script("store", three, token, entry, fc.constantFrom("0", "1")) },
  { weight: 2, arbitrary: script("free", three, token, fc.constantFrom("0", LONG_MS)) },
  {
    weight: 2,
    arbitrary: script(
      "renew",
      [names.lock, names.audience],
      ...[token, word(LONG_MS), word(`w${MEMBER}`), word(LONG_MS), token],
    ),
  },
  {
    weight: 2,
    arbitrary: script(
      "fence",
      three,
      fc.constantFrom(MEMBER, "d".repeat(16)),
      word("f00"),
      fc.constantFrom("v", "v", "state"),
      fc.oneof(fc.constant([]), entry),
    ),
  },
  {
    weight: 2,
    arbitrary: script(
      "enlist",
      [names.entry, names.audience],
      word(`c${MEMBER}:60000`),
      word("60000"),
      word("v"),
      word("tags"),
    ),
  },
  { weight: 2, arbitrary: script("tag", [names.tag], word("nonce"), word(LONG_MS), fc.constantFrom("", "", "gone")) },
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
  { weight: 1, arbitrary: command("zadd", word(names.audience), word("4000000000000"), member) },
  { weight: 1, arbitrary: command("zrem", word(names.audience), member) },
  { weight: 1, arbitrary: command("zrange", word(names.audience), word("0"), word("-1")) },
  { weight: 1, arbitrary: command("hdel", word(names.entry), word("tags")) },
  { weight: 20, arbitrary: scriptRun },
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
    await subscriber.subscribe(`cachefence:${MEMBER}`);
  });

  afterAll(async () => {
    redis.disconnect();
    subscriber.disconnect();
    await server.stop();
  });

  it("answers any sequence of commands as a server does", { timeout: 300_000 }, async () => {
    const property = fc.asyncProperty(fc.array(step, { maxLength: 40, size: "max" }), async (steps) => {
      await redis.config("SET", "maxmemory", "0");
      await redis.script("FLUSH");
      await redis.del(names.lock, names.entry, names.audience, names.tag);
      heard.length = 0;
      const model = new ModelServer(1_800_000_000_000);
      const told: string[] = [];
      model.subscribe(`cachefence:${MEMBER}`, { receive: (_channel, message) => told.push(message.toString()) });
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
    return reply.map((one: unknown) => timeless(Buffer.isBuffer(one) ? one.toString("latin1") : one));
  const text = Buffer.isBuffer(reply) ? reply.toString("latin1") : reply;
  return name.startsWith("eval") && typeof text === "string" ? timeless(codeOf(text)) : text;
}

/** Without the server's clock: what is left of a lease, or a state that holds the time. */
function timeless(text: unknown): unknown {
  if (typeof text !== "string") return text;
  if (text.startsWith("nonce-")) return "a new state";
  return /^\d{3,7}$/.test(text) ? "a lease" : text;
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
