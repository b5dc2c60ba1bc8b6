import { once } from "node:events";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { EntryReader } from "../../src/protocol/entry-reader.js";
import { CacheFenceError } from "../../src/errors.js";
import { GuardedWriter } from "../../src/protocol/guarded-writer.js";
import { type KeyNames, KeyNaming } from "../../src/protocol/key-names.js";
import { RebuildLock, type Token } from "../../src/protocol/rebuild-lock.js";
import { RedisFault } from "../../src/link/redis-link.js";
import { RedisLinks } from "../../src/link/redis-links.js";
import { ServerClock } from "../../src/link/server-clock.js";
import { deferred } from "../support/deferred.js";
import { describeRedis, removeKeys, uniquePrefix } from "../support/describe-redis.js";
import { type IoredisMajor, majors } from "../support/ioredis.js";
import { ManualRuntime } from "../support/manual-runtime.js";

const leaseMs = 60_000;
const redisTimeoutMs = 1_000;
const entry = { value: Buffer.from('"value"'), deltaSeconds: 0.5, expirySeconds: 4_000_000_000 };
const rival = `cachefence:${"f".repeat(32)}`;
const pythons = "0123456789abcdef0123456789abcdef";

/** Looks until it is so, for as long as a busy machine may need. */
const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 10_000 });

for (const major of majors) {
  describeRedis(`RebuildLock, ioredis ${major.name}`, (url) => suite(major, url));
}

function suite(major: IoredisMajor, url: string): void {
  const prefix = uniquePrefix();
  let raw: Redis;
  let client: Redis;
  let names: KeyNames;
  let runtime: ManualRuntime;
  let lock: RebuildLock;
  let heard: string[];
  let subscriber: Redis;
  let tests = 0;

  beforeAll(() => {
    raw = new major.Redis(url);
  });
  // Each test has a client of its own, to spoil as it likes; only the test moves time.
  beforeEach(async () => {
    client = new major.Redis(url);
    subscriber = new major.Redis(url);
    await client.ping();
    const naming = new KeyNaming(client, `${prefix}${++tests}:`);
    names = naming.namesOf("key");
    runtime = new ManualRuntime();
    const links = new RedisLinks(client, redisTimeoutMs, runtime, () => undefined);
    const reader = new EntryReader(links, new ServerClock(links.any, runtime), naming);
    lock = new RebuildLock(links, new GuardedWriter(client, redisTimeoutMs, runtime), reader, runtime, leaseMs);
    heard = [];
    subscriber.on("message", (_, news: string) => heard.push(news));
    await subscriber.subscribe(names.channel);
  });
  afterEach(() => {
    client.disconnect();
    subscriber.disconnect();
  });
  afterAll(async () => {
    await removeKeys(raw, prefix);
    raw.disconnect();
  });

  const held = () => raw.get(names.lock);
  const hold = (token: string) => raw.set(names.lock, token, "PX", leaseMs);
  const stored = () => raw.hget(names.entry, "v");
  const write = () => raw.hset(names.entry, { v: '"value"', delta: "0.5", expiry: "4000000000" });

  async function claimed(): Promise<Token> {
    const { token, held } = await lock.claim(names);
    expect(held).toBe(token);
    return token;
  }

  async function takenFrom(holder: string): Promise<Token> {
    const successor = lock.successorOf(holder);
    expect(await lock.takeOver(names, holder, successor)).toBe(true);
    return successor;
  }

  /** The client gives the next n scripts up, as one without an offline queue or retries left does; how many it has. */
  function failScripts(count: number): () => number {
    let failed = 0;
    for (const name of ["eval", "evalsha"] as const) {
      const real = client[name].bind(client) as (...args: unknown[]) => Promise<unknown>;
      const failing = (...args: unknown[]) => {
        if (failed >= count) return real(...args);
        failed++;
        return Promise.reject(new Error("Reached the max retries per request limit"));
      };
      Object.assign(client, { [name]: failing });
    }
    return () => failed;
  }

  /** Every command of this name waits for `go`, and then happens as the client would have it. */
  function holdBack(name: "set" | "eval") {
    const go = deferred();
    const real = client[name].bind(client) as (...args: unknown[]) => Promise<unknown>;
    const sent = vi.fn(async (...args: unknown[]) => {
      await go.promise;
      return real(...args);
    });
    Object.assign(client, { [name]: sent });
    return { go, sent, restore: () => Object.assign(client, { [name]: real }) };
  }

  describe("a claim", () => {
    it("takes a free lock for the length of the lease, with a token that no other claim has", async () => {
      const first = await claimed();
      expect(first).toMatch(/^cachefence:[0-9a-f]{32}$/);
      expect(await held()).toBe(first);
      expect(await raw.pttl(names.lock)).toBeGreaterThan(leaseMs / 2);
      await raw.del(names.lock);
      expect(await claimed()).not.toBe(first);
    });

    it("leaves the lock of another to it, and tells whose it is", async () => {
      await hold(rival);
      const claim = await lock.claim(names);
      expect(claim).toMatchObject({ held: rival, entry: undefined });
      expect(claim.token).not.toBe(rival);
      expect(await held()).toBe(rival);
    });

    it("finds what an earlier holder has stored", async () => {
      await write();
      expect((await lock.claim(names)).entry).toEqual(entry);
    });

    it("looks at the entry only once the lock is taken: what is stored in between is found", async () => {
      const real = client.set.bind(client) as (...args: unknown[]) => Promise<unknown>;
      const store = (...args: unknown[]) => {
        void client.hset(names.entry, { v: '"value"', delta: "0.5", expiry: "4000000000" });
        return real(...args);
      };
      Object.assign(client, { set: store });
      const claim = await lock.claim(names);
      expect(claim.held).toBe(claim.token);
      expect(claim.entry).toEqual(entry);
    });

    it("whose reply was lost, and that the client has sent again, knows its own lock", async () => {
      const real = client.set.bind(client) as (...args: unknown[]) => Promise<unknown>;
      const replies: unknown[] = [];
      const sendAgain = (...args: unknown[]) => {
        void real(...args).then((reply) => replies.push(reply));
        return real(...args).then((reply) => (replies.push(reply), reply));
      };
      Object.assign(client, { set: sendAgain });
      await claimed();
      expect(replies).toEqual(["OK", null]);
    });

    it("tells when the lock came free just after it was lost", async () => {
      await hold(rival);
      const real = client.set.bind(client) as (...args: unknown[]) => Promise<unknown>;
      const thenFree = (...args: unknown[]) => {
        const reply = real(...args);
        void client.del(names.lock);
        return reply;
      };
      Object.assign(client, { set: thenFree });
      expect((await lock.claim(names)).held).toBeUndefined();
    });

    it("that failed is freed if it is run after all, though that is long after its deadline", async () => {
      const { go } = holdBack("set");
      const claim = lock.claim(names).catch((error: unknown) => error);
      await vi.waitFor(async () => {
        await runtime.advance(redisTimeoutMs);
        expect(runtime.delaysMs).toEqual([]);
      });
      expect(await claim).toBeInstanceOf(RedisFault);
      go.resolve();
      await eventually(() => heard).toEqual(["freed"]);
      expect(await held()).toBeNull();
    });

    it("that failed is freed if only its reply was lost, and the client has given it up", async () => {
      const real = client.set.bind(client) as (...args: unknown[]) => Promise<unknown>;
      const loseReply = async (...args: unknown[]) => {
        await real(...args);
        throw new Error("Connection is closed.");
      };
      Object.assign(client, { set: loseReply });
      await expect(lock.claim(names)).rejects.toBeInstanceOf(RedisFault);
      await eventually(() => heard).toEqual(["freed"]);
      expect(await held()).toBeNull();
    });

    it("that fails on a lock that is not cachefence's is followed by one release, and by none later", async () => {
      await lock.remove(names); // From here on, the server knows the script.
      await raw.hset(names.lock, "field", "theirs");
      const release = vi.spyOn(client, "evalsha");
      for (let call = 1; call <= 3; call++) {
        await expect(lock.claim(names)).rejects.toThrow(/WRONGTYPE/);
        await client.ping();
        await runtime.advance(0);
        expect(release).toHaveBeenCalledTimes(call);
      }
      for (let later = 0; later < 10; later++) {
        await client.ping();
        await runtime.advance(leaseMs / 100);
      }
      expect(release).toHaveBeenCalledTimes(3);
      expect(await raw.hgetall(names.lock)).toEqual({ field: "theirs" });
    });

    it("that failed leaves the lock of another alone", async () => {
      await hold(rival);
      const broken = () => Promise.reject(new Error("NOPERM this user has no permissions"));
      Object.assign(client, { hmgetBuffer: broken });
      const released = vi.spyOn(client, "eval");
      await expect(lock.claim(names)).rejects.toThrow(/^NOPERM /);
      await vi.waitFor(() => expect(released).toHaveBeenCalledTimes(1));
      await released.mock.results[0]!.value;
      expect(await held()).toBe(rival);
    });
  });

  describe("a look", () => {
    it("tells who holds the lock, for how long, and what is stored", async () => {
      expect(await lock.look(names)).toEqual({ held: undefined, leaseLeftMs: -2, entry: undefined });
      await hold(rival);
      await write();
      const view = await lock.look(names);
      expect(view).toEqual({ held: rival, leaseLeftMs: view.leaseLeftMs, entry });
      expect(view.leaseLeftMs).toBeGreaterThan(leaseMs / 2);
      expect(view.leaseLeftMs).toBeLessThanOrEqual(leaseMs);
    });

    it("refuses a string without a lease: no lock of cachefence's is one", async () => {
      await raw.set(names.lock, "theirs");
      await expect(lock.look(names)).rejects.toThrow(CacheFenceError);
    });
  });

  describe("a takeover", () => {
    it("replaces exactly the value that was waited for, with a lease of its own", async () => {
      await raw.set(names.lock, rival, "PX", 1_000);
      const successor = lock.successorOf(rival);
      expect(await lock.takeOver(names, `${rival}:other`, successor)).toBe(false);
      expect(await lock.takeOver(names, rival.slice(0, -1), successor)).toBe(false);
      expect(await held()).toBe(rival);
      expect(await lock.takeOver(names, rival, successor)).toBe(true);
      expect(await held()).toBe(successor);
      expect(await raw.pttl(names.lock)).toBeGreaterThan(leaseMs / 2);
    });

    it("succeeds for one of many, and on no lock for none", async () => {
      await hold(rival);
      const outcomes = await Promise.all(
        Array.from({ length: 10 }, () => lock.takeOver(names, rival, lock.successorOf(rival))),
      );
      expect(outcomes.filter(Boolean)).toHaveLength(1);
      await raw.del(names.lock);
      expect(await lock.takeOver(names, rival, lock.successorOf(rival))).toBe(false);
      expect(await held()).toBeNull();
    });

    it("adds a mark of its own to what the lock holds", async () => {
      await hold(rival);
      const taker = await takenFrom(rival);
      expect(taker).toMatch(new RegExp(`^${rival}:[0-9a-f]{12}$`));
      expect(await takenFrom(taker)).toMatch(new RegExp(`^${taker}:[0-9a-f]{12}$`));
      expect(lock.successorOf(rival)).not.toBe(taker);
    });

    it("grows the lock 64 times and no more; whoever began before may still store, and whoever holds it", async () => {
      const tokens = [await claimed()];
      for (let takeovers = 0; takeovers < 70; takeovers++) tokens.push(await takenFrom(tokens.at(-1)!));
      expect(new Set(tokens).size).toBe(71);
      expect(tokens.at(-1)).toHaveLength(tokens[64]!.length);
      const accepted: number[] = [];
      for (const [index, token] of tokens.entries()) {
        await hold(tokens.at(-1)!);
        if (await lock.store(names, token, entry, 60_000)) accepted.push(index);
      }
      expect(accepted).toEqual([...Array.from({ length: 64 }, (_, index) => index), 70]);
    });

    it("from a Python holder, who publishes nothing, adds nothing to its token", async () => {
      await hold(pythons);
      expect(lock.publishes(pythons)).toBe(false);
      const taker = await takenFrom(pythons);
      expect(lock.publishes(taker)).toBe(true);
      expect(taker).not.toContain(pythons);
      expect(await lock.store(names, taker, entry, 60_000)).toBe(true);
    });

    it("that failed is freed if it is run after all, though that is long after its deadline", async () => {
      await hold(rival);
      const { go, restore } = holdBack("eval");
      const takeover = lock.takeOver(names, rival, lock.successorOf(rival)).catch((error: unknown) => error);
      await runtime.advance(redisTimeoutMs + 100);
      expect(await takeover).toBeInstanceOf(RedisFault);
      restore();
      go.resolve();
      await eventually(() => heard).toEqual(["freed"]);
      expect(await held()).toBeNull();
    });
  });

  describe("a lock that is kept", () => {
    const renewalsMs = leaseMs / 3;

    /** The moment at which a renewal has been answered. */
    async function untilRenewed(): Promise<void> {
      await eventually(() => raw.pttl(names.lock)).toBeGreaterThan(leaseMs / 2);
      await eventually(() => runtime.delaysMs.includes(renewalsMs)).toBe(true);
    }

    it("is renewed every third of its lease, by a timer that keeps no process alive", async () => {
      const onLost = vi.fn();
      const stop = lock.keep(names, await claimed(), onLost);
      for (let round = 0; round < 3; round++) {
        await raw.pexpire(names.lock, 5_000);
        await runtime.advance(renewalsMs - 1);
        await client.ping();
        expect(await raw.pttl(names.lock)).toBeLessThanOrEqual(5_000);
        expect(runtime.refs).toBe(0);
        await runtime.advance(1);
        await untilRenewed();
      }
      stop();
      expect(runtime.delaysMs.includes(renewalsMs)).toBe(false);
      expect(onLost).not.toHaveBeenCalled();
    });

    it.each([
      ["ended", () => raw.del(names.lock)],
      ["became another's", () => hold(rival)],
      ["was taken over", async () => takenFrom((await held())!)],
    ])("is lost, once, when it %s, and is renewed no more", async (_, lose) => {
      const onLost = vi.fn();
      lock.keep(names, await claimed(), onLost);
      await lose();
      await raw.pexpire(names.lock, 30_000);
      await runtime.advance(renewalsMs);
      await eventually(() => onLost.mock.calls.length).toBe(1);
      await runtime.advance(leaseMs);
      expect(onLost).toHaveBeenCalledTimes(1);
      expect(runtime.delaysMs.filter((ms) => ms > redisTimeoutMs)).toEqual([]);
      expect(await raw.pttl(names.lock)).toBeLessThanOrEqual(30_000); // Nobody else's was renewed.
    });

    it("is not given up for a renewal that failed: the next comes in its turn", async () => {
      const onLost = vi.fn();
      const stop = lock.keep(names, await claimed(), onLost);
      const failed = failScripts(1);
      await raw.pexpire(names.lock, 5_000);
      await runtime.advance(renewalsMs);
      expect(failed()).toBe(1);
      await runtime.advance(0);
      client.emit("ready"); // The connection is back.
      await runtime.advance(renewalsMs);
      await untilRenewed();
      stop();
      expect(onLost).not.toHaveBeenCalled();
    });

    it("tells nobody of its loss once it need not be kept any more", async () => {
      const onLost = vi.fn();
      const token = await claimed();
      const { go, sent } = holdBack("eval");
      const stop = lock.keep(names, token, onLost);
      await runtime.advance(renewalsMs);
      expect(sent).toHaveBeenCalledTimes(1);
      stop();
      await raw.del(names.lock);
      go.resolve();
      await sent.mock.results[0]!.value;
      await runtime.advance(leaseMs);
      expect(onLost).not.toHaveBeenCalled();
      expect(runtime.delaysMs).toEqual([]);
    });
  });

  describe("a store", () => {
    it("writes the entry, drops the lock, and tells the waiters", async () => {
      const token = await claimed();
      expect(await lock.store(names, token, entry, 60_000)).toBe(true);
      expect(await raw.hgetall(names.entry)).toEqual({ v: '"value"', delta: "0.5", expiry: "4000000000" });
      expect(await raw.pttl(names.entry)).toBeGreaterThan(30_000);
      expect(await held()).toBeNull();
      await eventually(() => heard).toEqual(["stored"]);
    });

    it.each([
      ["the holder", 0],
      ["its taker", 1],
      ["who took it from the taker", 2],
    ])("is accepted from the first to finish, here %s", async (_, first) => {
      const holder = await claimed();
      const taker = await takenFrom(holder);
      const all = [holder, taker, await takenFrom(taker)];
      expect(await lock.store(names, all[first]!, entry, 60_000)).toBe(true);
      expect(await held()).toBeNull();
      for (const token of all) {
        expect(await lock.store(names, token, { ...entry, value: Buffer.from('"late"') }, 60_000)).toBe(false);
      }
      expect(await stored()).toBe('"value"');
    });

    it("is refused for who took over from a claim or a takeover that was sent again after a fence", async () => {
      const holder = await claimed();
      const taker = await takenFrom(holder);
      const second = await takenFrom(taker);
      await lock.remove(names);
      // Their own recomputes begin when they are answered, so after the fence. Those of their takers began before it.
      await hold(holder);
      for (const token of [taker, second]) expect(await lock.store(names, token, entry, 60_000)).toBe(false);
      expect(await lock.takeOver(names, holder, taker)).toBe(true);
      expect(await lock.store(names, second, entry, 60_000)).toBe(false);
      expect(await stored()).toBeNull();
    });

    it.each([
      ["an invalidate", () => lock.remove(names), null],
      ["a set", () => lock.overwrite(names, { ...entry, value: Buffer.from('"set"') }, 60_000), '"set"'],
      ["the end of the lease", () => raw.del(names.lock), null],
      ["another claim after any of these", () => hold(rival), null],
    ])("is refused after %s, for the holder and for its taker", async (_, fence, left) => {
      const holder = await claimed();
      const taker = await takenFrom(holder);
      await fence();
      for (const token of [holder, taker]) expect(await lock.store(names, token, entry, 60_000)).toBe(false);
      expect(await stored()).toBe(left);
    });

    it("leaves what is not cachefence's, and says what it is", async () => {
      const token = await claimed();
      await raw.hset(names.entry, "field", "theirs");
      await expect(lock.store(names, token, entry, 60_000)).rejects.toThrow(
        `Redis key ${JSON.stringify(names.entry)} holds a hash that is not cachefence's`,
      );
      expect(await raw.hgetall(names.entry)).toEqual({ field: "theirs" });
    });
  });

  describe("a release", () => {
    it("frees exactly the holder's own lock, and tells the waiters", async () => {
      const token = await claimed();
      expect(await lock.release(names, token)).toBe(true);
      expect(await held()).toBeNull();
      await eventually(() => heard).toEqual(["freed"]);
      expect(await lock.release(names, token)).toBe(false);
      await raw.ping();
      expect(heard).toEqual(["freed"]);
    });

    it("by the one that it was taken from leaves the taker's lock, and the other way round", async () => {
      const holder = await claimed();
      const taker = await takenFrom(holder);
      expect(await lock.release(names, holder)).toBe(false);
      expect(await held()).toBe(taker);
      await hold(holder);
      expect(await lock.release(names, taker)).toBe(false);
      expect(await held()).toBe(holder);
    });

    it("is tried again when the client gives it up, until it is done", async () => {
      const token = await claimed();
      const failed = failScripts(3);
      await expect(lock.release(names, token)).rejects.toBeInstanceOf(RedisFault);
      for (let tenths = 0; tenths < 3; tenths++) {
        expect(await held()).toBe(token);
        await runtime.advance(100);
      }
      expect(failed()).toBe(3);
      await eventually(held).toBeNull();
      expect(runtime.refs).toBe(0);
    });

    it("is tried no longer than the lease lasts, which ends the lock anyway", async () => {
      const token = await claimed();
      const failed = failScripts(Infinity);
      await expect(lock.release(names, token)).rejects.toBeInstanceOf(RedisFault);
      await runtime.advance(leaseMs / 2);
      expect(failed()).toBeGreaterThan(leaseMs / 2 / 200);
      await runtime.advance(leaseMs);
      const before = failed();
      await runtime.advance(leaseMs);
      expect(failed()).toBe(before);
      expect(runtime.delaysMs).toEqual([]);
    });

    it("is handed over though the connection is lost, and happens when it is back", async () => {
      const token = await claimed();
      const isClosed = once(client, "close");
      client.disconnect(true);
      await isClosed;
      const isReady = once(client, "ready");
      await expect(lock.release(names, token)).rejects.toThrow("lost its connection");
      await isReady;
      await eventually(held).toBeNull();
    });
  });

  describe("a fence", () => {
    it.each([
      ["remove", "freed", () => lock.remove(names)],
      ["overwrite", "stored", () => lock.overwrite(names, entry, 60_000)],
    ] as const)("%s ends every lock, whoever holds it, and tells the waiters: %s", async (_, news, fence) => {
      for (const holder of [rival, pythons]) {
        await hold(holder);
        await fence();
        expect(await held()).toBeNull();
      }
      await eventually(() => heard).toEqual([news, news]);
    });
  });
}
