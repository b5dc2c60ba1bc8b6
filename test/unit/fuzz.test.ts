import { CacheFence } from "cachefence";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { RedisClient } from "../../src/link/redis-client.js";
import { RedisLink } from "../../src/link/redis-link.js";
import { ServerClock } from "../../src/link/server-clock.js";
import { decodeEntry } from "../../src/protocol/entry.js";
import { KeyNaming } from "../../src/protocol/key-names.js";
import { confirmed, fenced, freed, parseMessage, stored } from "../../src/protocol/messages.js";
import { ScriptRunner, ScriptedSteps } from "../../src/protocol/scripted.js";
import type { Token } from "../../src/protocol/token.js";
import { firstToken, holderOf, isOfLine, partOf, takenToken } from "../../src/protocol/token.js";
import { systemRuntime } from "../../src/runtime.js";
import { bytes, draws, mutated, numberLike } from "../support/fuzz.js";
import { ManualRuntime, settle } from "../support/manual-runtime.js";

const MEMBER = "0123456789abcdef";
const token = firstToken(partOf(MEMBER, true, "000000000001"));
const isSeconds = (number: number) => number >= 0 && number < Infinity;

describe("what comes from outside: a message", () => {
  const key = fc.oneof(fc.constantFrom("k", "app:k", "ключ", "a b", "a\nb"), fc.string({ minLength: 1 }));
  const told = fc
    .record({ key, tags: fc.constantFrom("", "a-1-2", "a-1-2,b-3-4"), value: bytes })
    .map(({ key, tags, value }) => {
      const line = `stored ${Buffer.byteLength(key)} ${token} 0.5 1700000000.25 ${Buffer.byteLength(tags)}`;
      return Buffer.concat([Buffer.from(`${line}\n${key}${tags}`), value]);
    });
  const valid = fc.oneof(
    key.map((one) => Buffer.from(freed(one))),
    key.map((one) => Buffer.from(stored(one))),
    key.map((one) => Buffer.from(fenced(one, "f00", MEMBER))),
    fc.constant(Buffer.from(confirmed("f00", MEMBER))),
    told,
  );

  it("is one only if it can be made from what was read of it", () => {
    fc.assert(
      fc.property(fc.oneof(bytes, valid, mutated(valid)), (message) => {
        const read = parseMessage(message);
        if (read === undefined) return;
        if (read.kind === "confirmed") {
          expect(read.member).toMatch(/^[0-9a-f]{16}$/);
          expect(message.toString("latin1")).toBe(
            confirmed(read.fence, read.member) + message.toString("latin1").split("\n").slice(1).join("\n"),
          );
          return;
        }
        expect(message.toString("latin1").startsWith(`${read.kind} `)).toBe(true);
        if (read.kind === "fenced") expect(read.member).toMatch(/^[0-9a-f]{16}$/);
        if (read.kind !== "stored" || read.told === undefined) return;
        expect(isSeconds(read.told.deltaSeconds) && isSeconds(read.told.expirySeconds)).toBe(true);
        expect(holderOf(read.told.token)).toBeDefined();
        expect(read.told.value.length).toBeLessThan(message.length);
      }),
      draws(5_000),
    );
  });
});

describe("what comes from outside: a lock", () => {
  it("is taken over whatever it holds, never grows without end, and is of no line but its own", () => {
    const locks = fc.oneof(
      fc.string({ unit: "binary" }),
      mutated(fc.constant(Buffer.from(token))).map((lock) => lock.toString()),
      fc.string({ maxLength: 3_000, minLength: 1_900 }),
    );
    fc.assert(
      fc.property(locks, fc.nat(100), (lock, takers) => {
        let taken = lock as Token;
        for (let taker = 0; taker < takers; taker++) taken = takenToken(taken, partOf(MEMBER, false, "0f"));
        expect(taken.length).toBeLessThanOrEqual(Math.max(lock.length, 2_000) + 40);
        expect(isOfLine(taken, lock)).toBe(taken === lock || taken.startsWith(`${lock}:`));
        expect(holderOf(taken)).toBe(takers > 0 ? MEMBER : holderOf(lock));
        expect(isOfLine(lock, token)).toBe(lock === token || lock.startsWith(`${token}:`));
      }),
      draws(2_000),
    );
  });
});

describe("what comes from outside: an entry", () => {
  // Decimal text, as docs/protocol.md has it.
  const isDecimal = (field: Buffer) => /^(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(field.toString("latin1"));

  it("is an entry only with a delta and an expiry that are decimal, finite and not negative", () => {
    const field = fc.oneof(numberLike, fc.constantFrom(null, undefined));
    fc.assert(
      fc.property(fc.option(bytes), field, field, fc.option(bytes), (value, delta, expiry, tags) => {
        const entry = decodeEntry([value, delta, expiry, tags], "key", (_key, stored) => stored);
        if (value === null) {
          expect(entry).toBeUndefined();
          return;
        }
        const isGood = [delta, expiry].every(
          (one) => one != null && isDecimal(one) && Number(one.toString()) < Infinity,
        );
        expect(entry === "corrupt").toBe(!isGood);
        if (typeof entry !== "object") return;
        expect(entry).toMatchObject({ deltaSeconds: Number(delta), expirySeconds: Number(expiry) });
        expect(entry.value.equals(value)).toBe(true);
      }),
      draws(5_000),
    );
  });
});

const anything = fc.anything({ withBigInt: true, withDate: true, withNullPrototype: true, withTypedArray: true });
const words = fc.constantFrom(
  "found",
  "mine",
  "held",
  "foreign",
  "done",
  "failed",
  "taken",
  "lost",
  "refused",
  "holder",
);
const wordLike = fc.oneof(words, numberLike, fc.string(), anything, fc.constantFrom(token, MEMBER, null, undefined));
const reply = fc.oneof(
  anything,
  words,
  fc.array(wordLike, { maxLength: 6 }),
  fc.constantFrom("QUEUED", null, undefined, []),
);

describe("what comes from outside: the reply of a script", () => {
  it("is one of its answers, or an error: no number in it is none", async () => {
    const names = new KeyNaming({}, "", { needsSlots: false }).namesOf("k");
    const member = { id: MEMBER, showsDeath: true, hearsBytes: true, nonce: () => "00" };
    const entry = { value: Buffer.from("1"), deltaSeconds: 0, expirySeconds: 1, tags: "", keepMs: 1 };
    const request = {
      part: partOf(MEMBER, true, "00"),
      leaseMs: 1,
      purpose: "fill",
      atHand: undefined,
      tags: "",
      isUnreadable: false,
      outwaited: undefined,
      silent: undefined,
      waitMs: 1,
    } as const;
    await fc.assert(
      fc.asyncProperty(reply, async (answer) => {
        const client = { eval: () => Promise.resolve(answer), evalsha: () => Promise.resolve(answer) };
        const steps = new ScriptedSteps(new ScriptRunner(client as unknown as RedisClient), member);
        const all = await Promise.allSettled([
          steps.claim(names, request),
          steps.store(names, token, entry),
          steps.free(names, token, 0),
          steps.renew(names, token, token, 1, 1),
          steps.fence(names, "f", undefined),
          steps.tag(names, undefined, 1),
        ]);
        const [claim, store, free, renew, fence, tag] = all;
        for (const one of all) if (one.status === "rejected") expect(one.reason).toBeInstanceOf(Error);
        if (claim.status === "fulfilled" && claim.value.kind === "held") {
          expect(Number.isFinite(claim.value.leaseLeftMs)).toBe(true);
        }
        if (store.status === "fulfilled") expect(["done", "refused", "foreign"]).toContain(store.value);
        if (free.status === "fulfilled") expect(["done", "refused"]).toContain(free.value);
        if (renew.status === "fulfilled") expect(["done", "taken", "lost"]).toContain(renew.value.kind);
        if (fence.status === "fulfilled" && fence.value.kind === "done") {
          for (const { leaseLeftMs } of fence.value.copies) expect(Number.isFinite(leaseLeftMs)).toBe(true);
        }
        if (tag.status === "fulfilled") expect(typeof tag.value).toBe("string");
      }),
      draws(2_000),
    );
  });
});

describe("what comes from outside: the server's time", () => {
  it("moves the clock only if it is a time", async () => {
    const time = fc.oneof(
      reply,
      fc.array(fc.oneof(numberLike.map(String), fc.double(), fc.constant(null)), { maxLength: 3 }),
    );
    await fc.assert(
      fc.asyncProperty(time, async (answer) => {
        const runtime = new ManualRuntime();
        const client = { status: "ready", time: () => Promise.resolve(answer), once: () => 0, off: () => 0 };
        const link = new RedisLink(client as unknown as RedisClient, 60_000, runtime);
        const clock = new ServerClock(link, runtime);
        clock.sampleIfDue(0);
        await settle();
        expect(Number.isFinite(clock.nowSeconds())).toBe(true);
        expect(clock.nowSeconds()).toBeGreaterThan(0);
      }),
      draws(300),
    );
  });
});

describe("what comes from outside: a client that answers anything", () => {
  it("costs a rebuild or an error: every call ends, and nothing is left", async () => {
    const garbage = fc.infiniteStream(
      fc.oneof(reply, fc.constant(new Error("ERR broken")), fc.constant(new Error("odd"))),
    );
    await fc.assert(
      fc.asyncProperty(garbage, async (replies) => {
        const answer = async (): Promise<unknown> => {
          await new Promise((resolve) => setImmediate(resolve));
          const { value } = replies.next() as { value: unknown };
          if (value instanceof Error) throw value;
          return value;
        };
        const commands = ["hmgetBuffer", "set", "get", "pttl", "type", "time", "zadd", "zrem", "publish", "pexpire"];
        const scripts = ["eval", "evalsha", "evalBuffer", "evalshaBuffer", "pubsub"];
        const listening = { on: () => 0, once: () => 0, off: () => 0 };
        const client = { status: "ready", ...listening } as unknown as RedisClient;
        for (const name of [...commands, ...scripts]) Object.assign(client, { [name]: answer });
        const runtime = { ...systemRuntime };
        const options = { redisTimeout: 0.05, waitForLock: 0.01, lockTimeout: 0.05, beta: 0 };
        const cache = new CacheFence(client, { ...options, memory: new Map(), memoryLease: 0.05 }, runtime);
        const without = new CacheFence(client, options, runtime);
        const list = (of: CacheFence) =>
          of.getOrSetMany(
            ["k", "l"],
            (item) => item,
            60,
            (items) => items,
          );
        const settled = await Promise.allSettled([
          cache.getOrSet("k", 60, () => 1),
          cache.getOrSet("k", 60, () => 1, { tags: ["a", "b"], staleFor: 60 }),
          list(cache),
          list(without),
          cache.peek("k"),
          cache.set("k", 60, 1, { tags: ["a"] }),
          cache.invalidate("k", "l"),
          cache.invalidateTags("a"),
        ]);
        for (const one of settled) if (one.status === "rejected") expect(one.reason).toBeInstanceOf(Error);
        await Promise.all([cache.idle(), without.idle()]);
        await Promise.all([cache.close(), without.close()]);
      }),
      { ...draws(100), endOnFailure: true },
    );
  });
});
