import { CacheFence, CacheFenceError } from "cachefence";
import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { channelOf } from "../../src/protocol/messages.js";
import { systemRuntime } from "../../src/runtime.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { bytes, draws, mutated, numberLike } from "../support/fuzz.js";
import type { RedisServer } from "../support/redis-server.js";
import { startRedis } from "../support/redis-server.js";

const VICTIM = "a".repeat(16);
const OTHER = "b".repeat(16);
const token = `cachefence:L${OTHER}-000000000001`;

const optional = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: undefined, freq: 2 });
const entry = fc.record({
  v: fc.oneof(
    bytes,
    fc.json().map((text) => Buffer.from(text)),
    fc.constant(Buffer.from('{"__proto__":{"a":[1]}}')),
  ),
  delta: fc.oneof(numberLike, fc.constant(Buffer.from("0"))),
  expiry: fc.oneof(numberLike, fc.constantFrom(Buffer.from("9999999999"), Buffer.from("1"))),
  tags: fc.oneof(bytes, fc.constant(undefined), fc.constant(undefined)),
});
const lock = fc.oneof(
  bytes,
  mutated(fc.constant(Buffer.from(token))),
  fc
    .constantFrom(token, `${token}:P`, "", "x".repeat(5_000), `${token}:${"L".repeat(3_000)}`)
    .map((text) => Buffer.from(text)),
);
// No lease above 30 ms, for a fence waits for that.
const member = fc.oneof(
  bytes,
  fc
    .tuple(
      fc.constantFrom("c", "w", "x"),
      fc.constantFrom(VICTIM, OTHER, "", "zz"),
      fc.constantFrom("", ":", ":30", ":-1", ":x"),
    )
    .map((parts) => Buffer.from(parts.join(""))),
);
const score = fc.oneof(fc.constantFrom("+inf", "-inf", "0", "9999999999999"), fc.integer().map(String));
const message = (key: string) => {
  const length = Buffer.byteLength(key);
  const valid = fc.constantFrom(
    `freed ${length}\n${key}`,
    `stored ${length}\n${key}`,
    `stored ${length} ${token} 0.1 9999999999 0\n${key}"told"`,
    `fenced ${length} f00 ${OTHER}\n${key}`,
    `confirmed f00 ${OTHER}\n`,
  );
  const whole = valid.map((text) => Buffer.from(text));
  return fc.oneof(bytes, whole, mutated(whole));
};

// Each draw is a state that somebody has left in Redis, with messages that come meanwhile.
describeOwnRedis("a cache over a server in which anything may stand", () => {
  let server: RedisServer;
  let raw: Redis;

  beforeAll(async () => {
    server = await startRedis();
    raw = new Redis(server.url);
    await raw.call("ACL", "SETUSER", "unscripted", "on", ">p", "~*", "&*", "+@all", "-@scripting");
  });
  afterAll(async () => {
    raw.disconnect();
    await server.stop();
  });

  describe.each(["by script", "by WATCH"] as const)("%s", (way) => {
    it("recomputes, serves what stands there, or says what is wrong; and a fence that resolves has fenced", async () => {
      const credentials = way === "by WATCH" ? { username: "unscripted", password: "p" } : {};
      const client = new Redis(server.port, server.host, credentials);
      const namespace = uniquePrefix();
      const runtime = { ...systemRuntime, memberId: () => VICTIM };
      const options = { namespace, waitForLock: 0.01, memory: new Map(), memoryLease: 0.05, redisTimeout: 20 };
      const cache = new CacheFence(client, options, runtime);
      await cache.getOrSet("mailbox", 60, () => 1);
      const key = `${namespace}k`;
      const state = fc.record({
        entry: optional(entry),
        lock: optional(lock),
        leaseMs: fc.constantFrom(1, 20, 5_000, 0),
        audience: fc.array(fc.tuple(score, member), { maxLength: 4 }),
        tag: optional(
          fc.oneof(
            bytes,
            fc.constantFrom("foreign", "a,b").map((text) => Buffer.from(text)),
          ),
        ),
        messages: fc.array(message(key), { maxLength: 6 }),
        staleFor: fc.constantFrom(0, 60),
        tags: fc.constantFrom([], ["t"], ["t", "u"]),
      });
      await fc.assert(
        fc.asyncProperty(state, async (drawn) => {
          const { entry: fields, audience, tags, staleFor } = drawn;
          await raw.del(key, `${key}:lock`, `${key}:audience`, `${namespace}t:tag`);
          if (fields !== undefined) {
            const { tags: states, ...others } = fields;
            await raw.hset(key, states === undefined ? others : { ...others, tags: states });
          }
          if (drawn.lock !== undefined) {
            if (drawn.leaseMs === 0) await raw.set(`${key}:lock`, drawn.lock);
            else await raw.set(`${key}:lock`, drawn.lock, "PX", drawn.leaseMs);
          }
          for (const [at, one] of audience) await raw.zadd(`${key}:audience`, at, one);
          if (drawn.tag !== undefined) await raw.hset(`${namespace}t:tag`, "state", drawn.tag);

          const isFair = (value: unknown) => value === "recomputed" || isForged(value, fields?.v) || value === "told";
          const reads = Promise.allSettled([
            cache.getOrSet<unknown>("k", 60, () => "recomputed", { tags, staleFor }),
            cache
              .getOrSetMany(
                ["k"],
                (item) => item,
                60,
                () => ["recomputed"],
              )
              .then((map) => map.get("k") as unknown),
          ]);
          for (const one of drawn.messages) await raw.publish(channelOf(VICTIM), one);
          const values = await reads;
          for (const value of values) {
            if (value.status === "fulfilled") expect([value.value, isFair(value.value)]).toEqual([value.value, true]);
            else expect(value.reason).toBeInstanceOf(CacheFenceError);
          }
          await cache.peek("k").catch((error: unknown) => expect(error).toBeInstanceOf(CacheFenceError));

          const isFenced = await cache.invalidate("k").then(
            () => true,
            (error: unknown) => {
              expect(error).toBeInstanceOf(CacheFenceError);
              return false;
            },
          );
          // A lock without a lease is somebody's own, and nothing of cachefence's is touched beside it.
          expect(isFenced).toBe(!(drawn.lock !== undefined && drawn.leaseMs === 0));
          if (!isFenced) return;
          expect(await cache.getOrSet("k", 60, () => "new")).toBe("new");
          await cache.set("k", 60, { set: [1] });
          expect(await cache.getOrSet("k", 60, () => "new")).toEqual({ set: [1] });
        }),
        draws(150),
      );
      expect("a" in {}).toBe(false);
      await cache.close();
      client.disconnect();
    });
  });
});

function isForged(value: unknown, stored: Buffer | undefined): boolean {
  if (stored === undefined) return false;
  const text = stored.toString();
  if (text === "null ") return value === undefined;
  try {
    return JSON.stringify(JSON.parse(text)) === JSON.stringify(value);
  } catch {
    return false;
  }
}
