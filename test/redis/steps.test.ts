import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Conversation } from "../../src/protocol/conversation.js";
import type { KeyNames } from "../../src/protocol/key-names.js";
import { KeyNaming } from "../../src/protocol/key-names.js";
import type { ClaimRequest, EncodedEntry, Steps } from "../../src/protocol/steps.js";
import type { Token } from "../../src/protocol/token.js";
import { firstToken, takenToken } from "../../src/protocol/token.js";
import { systemRuntime } from "../../src/runtime.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import type { RedisServer } from "../support/redis-server.js";
import { startRedis } from "../support/redis-server.js";

const LEASE_MS = 60_000;
const MEMBER = "f".repeat(16);
const OTHER = "e".repeat(16);
const pythons = "0123456789abcdef0123456789abcdef";
let nonces = 0;
const partOf = (member = OTHER, kind = "N") => `${kind}${member}-${String(++nonces).padStart(12, "0")}`;

// Both ways of doing a step must do the same: each test runs by script and by WATCH.
describeOwnRedis("the steps", () => {
  let server: RedisServer;
  let raw: Redis;

  beforeAll(async () => {
    server = await startRedis();
    raw = new Redis(server.url);
    const user = ["on", ">p", "~*", "&*", "+@all", "-@scripting"];
    await raw.call("ACL", "SETUSER", "unscripted", ...user);
  });
  afterAll(async () => {
    raw.disconnect();
    await server.stop();
  });

  describe.each(["by script", "by WATCH"] as const)("%s", (way) => {
    let client: Redis;
    let conversation: Conversation;
    let steps: Steps;
    let names: KeyNames;
    let subscriber: Redis;
    let heard: string[];

    beforeEach(async () => {
      const credentials = way === "by WATCH" ? { username: "unscripted", password: "p" } : {};
      client = new Redis(server.port, server.host, credentials);
      await client.ping();
      conversation = Conversation.over(client, systemRuntime);
      const { steps: chosen, clock } = conversation.way(20_000);
      await clock.settle();
      steps = chosen;
      names = new KeyNaming(client, uniquePrefix(), conversation).namesOf("key");
      heard = [];
      subscriber = new Redis(server.url);
      subscriber.on("message", (_, message: string) => heard.push(message));
      await subscriber.subscribe(`cachefence:${MEMBER}`);
    });
    afterEach(() => {
      conversation.close();
      client.disconnect();
      subscriber.disconnect();
    });

    const held = () => raw.get(names.lock);
    const hold = (token: string) => raw.set(names.lock, token, "PX", LEASE_MS);
    const audience = () => raw.zrange(names.audience, 0, -1);
    const waits = () => raw.zadd(names.audience, Date.now() + 60_000, `w${MEMBER}`);
    const entry: EncodedEntry = {
      value: Buffer.from([0, 255, 10]),
      deltaSeconds: 0.5,
      expirySeconds: 4_000_000_000,
      tags: "",
      keepMs: 60_000,
    };
    const write = (fields: object = {}) =>
      raw.hset(names.entry, { v: "1", delta: "0.5", expiry: "4000000000", ...fields });
    const claim = (wish: Partial<ClaimRequest> = {}) =>
      steps.claim(names, {
        part: partOf(),
        leaseMs: LEASE_MS,
        purpose: "fill",
        atHand: undefined,
        tags: "",
        isUnreadable: false,
        outwaited: undefined,
        silent: undefined,
        waitMs: 5_000,
        ...wish,
      });
    const claimed = async (wish: Partial<ClaimRequest> = {}): Promise<Token> => {
      const answer = await claim(wish);
      if (answer.kind !== "mine") throw new Error(`Expected the lock, got ${JSON.stringify(answer)}`);
      return answer.token;
    };

    describe("a claim", () => {
      it("takes a free lock for the length of the lease", async () => {
        const part = partOf();
        expect(await claim({ part })).toEqual({ kind: "mine", token: `cachefence:${part}`, how: "free" });
        expect(await held()).toBe(`cachefence:${part}`);
        expect(await raw.pttl(names.lock)).toBeGreaterThan(LEASE_MS - 10_000);
      });

      it("knows its own lock when it is sent again", async () => {
        const part = partOf();
        await claim({ part });
        expect(await claim({ part })).toEqual({ kind: "mine", token: `cachefence:${part}`, how: "free" });
      });

      it("finds a valid entry, and locks nothing", async () => {
        await write();
        expect(await claim()).toEqual({ kind: "found" });
        await expect.poll(held).toBeNull();
      });

      it.each([
        ["the one at hand", {}, { atHand: { deltaSeconds: 0.5, expirySeconds: 4_000_000_000 } }],
        ["past its expiry", { expiry: "1700000000" }, {}],
        ["one with other tags", { tags: "a-1-2" }, {}],
        ["one without the tags that are asked for", {}, { tags: "a-1-2" }],
        ["one that cannot be read", { delta: "-1" }, {}],
        ["one that has been found in vain", {}, { isUnreadable: true }],
      ])("does not count as an entry %s", async (_, fields, wish) => {
        await write(fields);
        expect(await claim(wish)).toMatchObject({ kind: "mine", how: "free" });
      });

      it("finds an entry with the tags that are asked for", async () => {
        await write({ tags: "a-1-2,b-3-4" });
        expect(await claim({ tags: "a-1-2,b-3-4" })).toEqual({ kind: "found" });
      });

      it("that is lost makes a waiter of who has nothing to serve, and leaves the others alone", async () => {
        await hold("rival");
        const before = Date.now();
        expect(await claim({ purpose: "refresh" })).toMatchObject({ kind: "held", lock: "rival", by: "holder" });
        expect(await audience()).toEqual([]);
        const answer = await claim();
        expect(answer).toMatchObject({ kind: "held", lock: "rival", by: "holder" });
        expect(answer.kind === "held" && answer.leaseLeftMs).toBeGreaterThan(LEASE_MS - 10_000);
        const member = `w${conversation.mailbox.id}`;
        await expect.poll(audience).toEqual([member]);
        expect(Number(await raw.zscore(names.audience, member))).toBeGreaterThanOrEqual(before + 4_000);
        expect(await raw.pttl(names.audience)).toBeGreaterThan(0);
      });

      it("takes over exactly the lock whose patience is over, and adds its part to it", async () => {
        await hold("rival");
        expect(await claim({ outwaited: "another" })).toMatchObject({ kind: "held", lock: "rival" });
        const part = partOf();
        expect(await claim({ part, outwaited: "rival" })).toEqual({
          kind: "mine",
          token: `rival:${part}`,
          how: "patience",
        });
        expect(await held()).toBe(`rival:${part}`);
        expect(await raw.pttl(names.lock)).toBeLessThanOrEqual(LEASE_MS);
      });

      it.each([
        ["bytes that are no text", Buffer.from([0xff, 0x00, 0xc3, 0x28])],
        ["of somebody who writes very long ones", Buffer.from("x".repeat(5_000))],
      ])("takes over a foreign lock too: %s", async (_, lock) => {
        await raw.set(names.lock, lock, "PX", LEASE_MS);
        const seen = await claim();
        if (seen.kind !== "held") throw new Error("not held");
        const taken = await claimed({ outwaited: seen.lock });
        expect(taken.length).toBeLessThan(100);
        expect(await steps.store(names, taken, entry)).toBe("done");
        expect(await held()).toBeNull();
      });

      it("of many that take over the same lock is granted to one", async () => {
        await hold("rival");
        const answers = await Promise.all(Array.from({ length: 10 }, () => claim({ outwaited: "rival" })));
        expect(answers.filter(({ kind }) => kind === "mine")).toHaveLength(1);
      });

      it("grows the lock 64 times and no more; whoever began before may still store, and whoever holds it", async () => {
        const first = await claimed();
        let last = first;
        for (let taker = 0; taker < 100; taker++) last = await claimed({ outwaited: last });
        expect(last.length).toBeLessThan(2_100);
        expect(last.startsWith(first)).toBe(true);
        expect(await held()).toBe(last);
        expect(await steps.store(names, first, entry)).toBe("done");
      });

      it("takes a pause at once, but for a refresh", async () => {
        const token = await claimed();
        expect(await steps.free(names, token, 5_000)).toBe("done");
        const refused = await claim({ purpose: "refresh" });
        expect(refused).toMatchObject({ kind: "held", by: "pause" });
        expect(refused.kind === "held" && refused.leaseLeftMs).toBeLessThanOrEqual(5_000);
        const part = partOf();
        expect(await claim({ part })).toEqual({ kind: "mine", token: firstToken(part), how: "free" });
        expect(await raw.pttl(names.lock)).toBeGreaterThan(5_000);
      });

      it("refuses a lock without a lease: no lock of cachefence's is one", async () => {
        await raw.set(names.lock, "somebody's own");
        expect(await claim()).toEqual({ kind: "foreign" });
        expect(await claim({ outwaited: "somebody's own" })).toEqual({ kind: "foreign" });
        expect(await held()).toBe("somebody's own");
        // Nor is one that looks like a pause.
        await raw.set(names.lock, "somebody's own:P");
        expect(await claim()).toEqual({ kind: "foreign" });
        expect(await held()).toBe("somebody's own:P");
      });
    });

    describe("a store", () => {
      it("writes the entry as Python cachefence does, and frees the lock", async () => {
        const token = await claimed();
        expect(await steps.store(names, token, entry)).toBe("done");
        const [value, ...rest] = await raw.hmgetBuffer(names.entry, "v", "delta", "expiry", "tags");
        expect(value).toEqual(entry.value);
        expect(rest.map(String)).toEqual(["0.5", "4000000000", "null"]);
        expect(await raw.hlen(names.entry)).toBe(3);
        expect(await raw.pttl(names.entry)).toBeGreaterThan(50_000);
        expect(await held()).toBeNull();
      });

      it("keeps the tags, and drops those of the entry before it", async () => {
        expect(await steps.store(names, await claimed(), { ...entry, tags: "a-1-2" })).toBe("done");
        expect(await raw.hget(names.entry, "tags")).toBe("a-1-2");
        const atHand = { deltaSeconds: 0.5, expirySeconds: 4_000_000_000 };
        expect(await steps.store(names, await claimed({ atHand }), entry)).toBe("done");
        expect(await raw.hget(names.entry, "tags")).toBeNull();
      });

      it("tells the waiters, and removes them; and leaves the copies", async () => {
        const token = await claimed();
        await waits();
        await raw.zadd(names.audience, Date.now() + 60_000, `c${MEMBER}:1000`);
        await steps.store(names, token, entry);
        await expect.poll(() => heard.length).toBe(1);
        expect(heard[0]!.startsWith(`stored ${Buffer.byteLength(names.redisKey)}`)).toBe(true);
        expect(await audience()).toEqual([`c${MEMBER}:1000`]);
      });

      it.each([
        ["an invalidate", () => steps.fence(names, "f", undefined)],
        ["a set", () => steps.fence(names, "f", entry)],
        ["the end of the lease", () => raw.del(names.lock)],
        ["another store", () => steps.store(names, firstToken("x"), entry).then(() => raw.del(names.lock))],
      ])("is refused after %s, for the holder and for its taker", async (_, end) => {
        const holder = await claimed();
        const taker = await claimed({ outwaited: holder });
        await end();
        await raw.del(names.entry);
        expect(await steps.store(names, holder, entry)).toBe("refused");
        expect(await steps.store(names, taker, entry)).toBe("refused");
        expect(await raw.exists(names.entry)).toBe(0);
      });

      it.each(["holder", "taker"] as const)("is accepted from the first to finish, here the %s", async (first) => {
        const holder = await claimed();
        const taker = await claimed({ outwaited: holder });
        const [one, other] = first === "holder" ? [holder, taker] : [taker, holder];
        expect(await steps.store(names, one, entry)).toBe("done");
        expect(await steps.store(names, other, entry)).toBe("refused");
      });

      it("is refused for who took over from a claim or a takeover that was sent again after a fence", async () => {
        const part = partOf();
        const first = await claimed({ part });
        const secondPart = partOf();
        const second = await claimed({ part: secondPart, outwaited: first });
        const third = await claimed({ outwaited: second });
        await steps.fence(names, "f", undefined);
        expect(await claimed({ part })).toBe(first);
        expect(await steps.store(names, second, entry)).toBe("refused");
        expect(await claimed({ part: secondPart, outwaited: first })).toBe(second);
        expect(await steps.store(names, third, entry)).toBe("refused");
      });

      it("leaves what is not cachefence's", async () => {
        const token = await claimed();
        await raw.hset(names.entry, "field", "theirs");
        expect(await steps.store(names, token, entry)).toBe("foreign");
        expect(await raw.hgetall(names.entry)).toEqual({ field: "theirs" });
      });

      it("leaves what is not cachefence's at the audience, and stores nothing that no fence could tell of", async () => {
        const token = await claimed();
        await raw.del(names.audience);
        await raw.hset(names.audience, "field", "theirs");
        expect(await steps.store(names, token, entry)).toBe("foreign");
        expect(await raw.hgetall(names.audience)).toEqual({ field: "theirs" });
        expect(await raw.exists(names.entry)).toBe(0);
      });
    });

    describe("freeing", () => {
      it("frees exactly the holder's own lock, and tells the waiters", async () => {
        const token = await claimed();
        await waits();
        expect(await steps.free(names, firstToken("other"), 0)).toBe("refused");
        expect(await steps.free(names, token.slice(0, -1) as Token, 0)).toBe("refused");
        expect(await steps.free(names, token, 0)).toBe("done");
        expect(await held()).toBeNull();
        await expect.poll(() => heard).toEqual([`freed ${names.redisKey.length}\n${names.redisKey}`]);
        expect(await audience()).toEqual([]);
      });

      it("by the one that it was taken from leaves the taker's lock, and the other way round", async () => {
        const holder = await claimed();
        const taker = await claimed({ outwaited: holder });
        expect(await steps.free(names, holder, 0)).toBe("refused");
        expect(await held()).toBe(taker);
        expect(await steps.free(names, taker, 0)).toBe("done");
        expect(await held()).toBeNull();
      });
    });

    describe("a renewal", () => {
      it("sets the lease anew, for exactly the holder", async () => {
        const token = await claimed();
        await raw.pexpire(names.lock, 20_000);
        expect(await steps.renew(names, token, token, LEASE_MS, 5_000)).toEqual({ kind: "done" });
        expect(await raw.pttl(names.lock)).toBeGreaterThan(50_000);
        expect(await held()).toBe(token);
      });

      it("puts what the token has grown to into the lock, once; under the token itself it is stored all the same", async () => {
        const token = await claimed();
        const grown = takenToken(token, partOf(MEMBER, "L"));
        for (let time = 0; time < 2; time++) {
          await raw.pexpire(names.lock, 20_000);
          expect(await steps.renew(names, token, grown, LEASE_MS, 5_000)).toEqual({ kind: "done" });
          expect(await held()).toBe(grown);
          expect(await raw.pttl(names.lock)).toBeGreaterThan(50_000);
        }
        expect(await steps.free(names, token, 0)).toBe("refused");
        expect(await steps.store(names, token, entry)).toBe("done");
        expect(await held()).toBeNull();
      });

      it.each([
        ["taken over", "taken", (token: Token) => claimed({ outwaited: token })],
        ["fenced", "lost", () => steps.fence(names, "f", undefined)],
        ["another's", "lost", () => hold("rival")],
      ])("of a lock that is %s is refused, and makes a waiter of who has lost it", async (_, kind, lose) => {
        const token = await claimed();
        await lose(token);
        const lock = await held();
        await raw.del(names.audience);
        const grown = takenToken(token, partOf());
        const answer = await steps.renew(names, token, grown, LEASE_MS, 5_000);
        expect(answer).toEqual(kind === "taken" ? { kind, lock } : { kind });
        await expect.poll(audience).toEqual([`w${conversation.mailbox.id}`]);
        expect(await held()).toBe(lock);
      });
    });

    describe("a fence", () => {
      it.each([
        ["removes", undefined],
        ["overwrites", entry],
      ])("%s the entry, ends the lock whoever holds it, and tells the waiters", async (_, put) => {
        for (const holder of ["cachefence:" + partOf(), pythons]) {
          await hold(holder);
          await waits();
          await write();
          expect(await steps.fence(names, "f", put)).toEqual({ kind: "done", copies: [] });
          expect(await held()).toBeNull();
          expect(await raw.hgetBuffer(names.entry, "v")).toEqual(put?.value ?? null);
          expect(await audience()).toEqual([]);
        }
        const freed = `freed ${names.redisKey.length}\n${names.redisKey}`;
        await expect.poll(() => heard).toEqual([freed, freed]);
      });

      it("tells who holds a copy, with the time that it has left, and leaves it in the audience", async () => {
        const now = Date.now();
        await raw.zadd(names.audience, now + 30_000, `c${MEMBER}:1000`);
        await raw.zadd(names.audience, now + 5_000, `c${OTHER}:60000`);
        await raw.zadd(names.audience, now - 10_000, `c${"d".repeat(16)}:1000`);
        await raw.zadd(names.audience, now + 30_000, `c${conversation.mailbox.id}:1000`);
        const answer = await steps.fence(names, "abc", undefined);
        if (answer.kind !== "done") throw new Error("not fenced");
        const left = Object.fromEntries(answer.copies.map((copy) => [copy.member, copy.leaseLeftMs]));
        expect(Object.keys(left).sort()).toEqual([OTHER, MEMBER]);
        // Never more than its lease, nor than the server's clock says.
        expect(left[MEMBER]).toBe(1_000);
        expect(left[OTHER]).toBeLessThanOrEqual(5_000);
        expect(await audience()).toEqual(expect.arrayContaining([`c${MEMBER}:1000`, `c${OTHER}:60000`]));
        const key = names.redisKey;
        await expect.poll(() => heard).toEqual([`fenced ${key.length} abc ${conversation.mailbox.id}\n${key}`]);
      });

      it.each([
        ["a lease without end", "+inf", "9".repeat(400)],
        ["one of years", 1e15, "99999999999"],
      ])(
        "waits for nobody longer than the longest lease there is, though somebody has written %s",
        async (...forged) => {
          const [, score, lease] = forged;
          await raw.zadd(names.audience, score, `c${MEMBER}:${lease}`);
          const answer = await steps.fence(names, "abc", undefined);
          expect(answer).toEqual({ kind: "done", copies: [{ member: MEMBER, leaseLeftMs: 60_000 }] });
        },
      );

      it.each([3_600_000, -3_600_000])(
        "tells the time that a copy has left whatever clock this host has: %d ms",
        async (skewMs) => {
          const wrong = { ...systemRuntime, wallClockMs: () => Date.now() + skewMs };
          // Without a look before, from which it would know the server's clock.
          const { steps: unsettled } = Conversation.over(client, wrong).way(20_000);
          await raw.zadd(names.audience, Date.now() + 30_000, `c${MEMBER}:60000`);
          const answer = await unsettled.fence(names, "abc", undefined);
          if (answer.kind !== "done") throw new Error("not fenced");
          expect(answer.copies.map(({ member }) => member)).toEqual([MEMBER]);
          expect(Math.round((answer.copies[0]?.leaseLeftMs ?? 0) / 10_000)).toBe(3);
          Conversation.over(client, wrong).close();
        },
      );

      it("leaves what is not cachefence's: a hash, and a lock without a lease", async () => {
        await raw.hset(names.entry, "field", "theirs");
        expect(await steps.fence(names, "f", undefined)).toEqual({ kind: "foreign" });
        await raw.del(names.entry);
        await raw.set(names.lock, "somebody's own");
        expect(await steps.fence(names, "f", entry)).toEqual({ kind: "foreign" });
        expect(await held()).toBe("somebody's own");
        expect(await raw.exists(names.entry)).toBe(0);
      });
    });

    describe("a tag's state", () => {
      beforeEach(() => {
        names = new KeyNaming(client, uniquePrefix(), conversation).tagNamesOf("tag");
      });

      it("is never taken for an entry, nor an entry for it", async () => {
        const asKey = new KeyNaming(client, names.entry.slice(0, -"tag:tag".length), conversation).namesOf("tag:tag");
        expect(asKey.entry).toBe(names.entry);
        const state = await steps.tag(names, undefined, 5_000);
        expect(await steps.fence(asKey, "f", entry)).toEqual({ kind: "foreign" });
        expect(await raw.hgetall(names.entry)).toEqual({ state });
        await raw.del(names.entry);
        await write();
        expect(await steps.tag(names, undefined, 5_000)).toBe("foreign");
        expect(await steps.fence(names, "f", undefined)).toEqual({ kind: "foreign" });
        expect(await raw.hget(names.entry, "v")).toBe("1");
      });

      it("is made once, by whoever asks first", async () => {
        const states = await Promise.all(Array.from({ length: 10 }, () => steps.tag(names, undefined, 5_000)));
        expect(new Set(states).size).toBe(1);
        expect(await raw.hget(names.entry, "state")).toBe(states[0]);
        expect(await raw.pttl(names.entry)).toBeGreaterThan(0);
        expect(await raw.pttl(names.entry)).toBeLessThanOrEqual(5_000);
      });

      it("is another one after it has gone", async () => {
        const before = await steps.tag(names, undefined, 5_000);
        await steps.fence(names, "f", undefined);
        expect(await steps.tag(names, undefined, 5_000)).not.toBe(before);
      });

      it("is kept for longer, and never for less, while it is the same", async () => {
        const state = await steps.tag(names, undefined, 5_000);
        expect(await steps.tag(names, state, 60_000)).toBe(state);
        expect(await raw.pttl(names.entry)).toBeGreaterThan(5_000);
        expect(await steps.tag(names, state, 1_000)).toBe(state);
        expect(await raw.pttl(names.entry)).toBeGreaterThan(5_000);
        expect(await steps.tag(names, "another", 600_000)).toBe(state);
        expect(await raw.pttl(names.entry)).toBeLessThanOrEqual(60_000);
      });

      it("is not made anew for who wants to keep one that has gone", async () => {
        expect(await steps.tag(names, "gone", 5_000)).toBe("");
        expect(await raw.exists(names.entry)).toBe(0);
      });

      it("is refused where something else is", async () => {
        await raw.hset(names.entry, "field", "theirs");
        expect(await steps.tag(names, undefined, 5_000)).toBe("foreign");
      });
    });
  });
});
