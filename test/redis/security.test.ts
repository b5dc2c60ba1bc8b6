import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { readFileSync } from "node:fs";
import { inspect } from "node:util";
import { CacheFence } from "cachefence";
import type { CacheFenceOptions } from "cachefence";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { channelOf, confirmed, fenced, freed, stored } from "../../src/protocol/messages.js";
import { systemRuntime } from "../../src/runtime.js";
import { waitersOf } from "../support/audience.js";
import { deferred } from "../support/deferred.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import type { RedisServer } from "../support/redis-server.js";
import { startRedis } from "../support/redis-server.js";
import { until } from "../support/waiting.js";

const VICTIM = "a".repeat(16);
const OTHER = "b".repeat(16);
const NOBODY = "c".repeat(16);

const document = readFileSync(new URL("../../SECURITY.md", import.meta.url), "utf8");

/** The commands of the ACL line. */
function rightsOfSecurityMd(): string[] {
  const [, line = ""] = /^ACL SETUSER ([^`]*)/m.exec(document) ?? [];
  return line.split(/\s+/).filter((word) => word.startsWith("+"));
}

// What SECURITY.md says of whoever has access to the same Redis.
describeOwnRedis("somebody with access to the same Redis", () => {
  let server: RedisServer;
  let attacker: Redis;
  let namespace: string;
  const clients: Redis[] = [];

  beforeAll(async () => {
    server = await startRedis();
    attacker = new Redis(server.url);
  });
  beforeEach(() => {
    namespace = uniquePrefix();
  });
  afterEach(() => {
    for (const client of clients.splice(0)) client.disconnect();
  });
  afterAll(async () => {
    attacker.disconnect();
    await server.stop();
  });

  const connect = (credentials: object = {}): Redis => {
    const client = new Redis(server.port, server.host, credentials);
    clients.push(client);
    return client;
  };
  const open = (options: CacheFenceOptions = {}, member = OTHER, client = connect()) =>
    new CacheFence(
      client,
      { namespace, redisTimeout: 20, waitForLock: 60, beta: 0, ...options },
      { ...systemRuntime, memberId: () => member },
    );
  const unused = (): Promise<never> => Promise.reject(new Error("must not be called"));
  const tell = (message: string | Buffer, member = VICTIM) => attacker.publish(channelOf(member), message);
  const sourceIn = async (cache: CacheFence) => (await cache.getOrSetEntry("k", 60, unused)).source;
  const warm = (cache: CacheFence) => until("it is in memory", async () => (await sourceIn(cache)) === "memory");
  const forgedValue = (token: string) => {
    const key = `${namespace}k`;
    return `stored ${key.length} ${token} 0.1 9999999999 0\n${key}"forged"`;
  };

  /** A holder that recomputes until it is told to finish, and a victim that waits for it. */
  async function rebuildWithWaiter() {
    let recomputes = 0;
    const started = deferred();
    const finish = deferred();
    const holder = open({}, OTHER).getOrSet("k", 60, async () => {
      recomputes++;
      started.resolve();
      await finish.promise;
      return "right";
    });
    await started.promise;
    const cache = open({}, VICTIM);
    const waiter = cache.getOrSet("k", 60, () => {
      recomputes++;
      return "by the waiter";
    });
    await until("it waits", async () => (await waitersOf(attacker, `${namespace}k`)) === 1);
    return { holder, waiter, cache, finish: () => finish.resolve(), recomputes: () => recomputes };
  }

  describe("who publishes to mailboxes", () => {
    it("hands no value over without the token of the lock, and starts no rebuild", async () => {
      const { holder, waiter, finish, recomputes } = await rebuildWithWaiter();
      const key = `${namespace}k`;
      for (const token of ["", "cachefence", `cachefence:L${OTHER}-0`, `cachefence:L${OTHER}`, `L${OTHER}-0`, "x"]) {
        await tell(forgedValue(token));
      }
      for (let round = 0; round < 100; round++) {
        await tell(freed(key));
        await tell(stored(key));
        await tell(confirmed("f", OTHER));
        await tell(fenced(key, "f", NOBODY));
        await tell(Buffer.from([round, 255, 10, 0]));
        await tell(`stored 999999999 ${namespace}\n`);
      }
      finish();
      expect(await Promise.all([holder, waiter])).toEqual(["right", "right"]);
      expect(recomputes()).toBe(1);
    });

    it("and can read the lock, hands its own value to those who wait for it, and to nobody else", async () => {
      const { holder, waiter, finish } = await rebuildWithWaiter();
      const token = await attacker.get(`${namespace}k:lock`);
      await tell(forgedValue(token ?? ""));
      expect(await waiter).toBe("forged");
      finish();
      expect(await holder).toBe("right");
      expect(await open().getOrSet("k", 60, unused)).toBe("right");
    });

    it("drops a copy from memory, which costs a read", async () => {
      const cache = open({ memory: new Map(), memoryLease: 60 }, VICTIM);
      await cache.getOrSet("other", 60, () => 1);
      await cache.set("k", 60, "value");
      await warm(cache);
      const listener = connect();
      const heard: string[] = [];
      listener.on("message", (_, message: string) => heard.push(message));
      await listener.subscribe(channelOf(NOBODY));
      await tell(fenced(`${namespace}k`, "f00", NOBODY));
      await expect.poll(() => heard).toEqual([`confirmed f00 ${VICTIM}\n`]);
      expect(await sourceIn(cache)).toBe("redis");
    });

    it("leaves nothing in the memory of a process that has no copy of what is named", async () => {
      const cache = open({ memory: new Map(), memoryLease: 60 }, VICTIM);
      await cache.set("other", 60, 1);
      await until("it has a copy of another", async () => {
        return (await cache.getOrSetEntry("other", 60, unused)).source === "memory";
      });
      await cache.getOrSet("mailbox", 60, () => 1);
      await open({}, OTHER).set("k", 60, "value");
      await tell(fenced(`${namespace}k`, "f00", VICTIM));
      // It hears of its own confirmation after that: whatever is noted of the message has been noted.
      const listener = connect();
      const heard: string[] = [];
      listener.on("message", (_, message: string) => heard.push(message));
      await listener.subscribe(channelOf(NOBODY));
      await tell(fenced(`${namespace}k`, "f01", NOBODY));
      await expect.poll(() => heard).toEqual([`confirmed f01 ${VICTIM}\n`]);
      // A key of which a fence was noted is read from Redis for a lease.
      expect([await sourceIn(cache), await sourceIn(cache), await sourceIn(cache)]).toEqual([
        "redis",
        "redis",
        "memory",
      ]);
    });

    it("confirms no fence whose name it does not know", async () => {
      const cache = open({}, VICTIM);
      await cache.getOrSet("mailbox", 60, () => 1);
      await attacker.zadd(`${namespace}k:audience`, Date.now() + 60_000, `c${NOBODY}:300`);
      const fence = cache.invalidate("k");
      for (const name of ["", "f", "0".repeat(12), "__proto__"]) await tell(confirmed(name, NOBODY));
      await fence;
      expect(cache.stats().fenceWaits).toBe(1);
    });

    it("and listens to them, confirms a fence in another's name", async () => {
      const cache = open({}, VICTIM);
      await cache.getOrSet("mailbox", 60, () => 1);
      await attacker.zadd(`${namespace}k:audience`, Date.now() + 60_000, `c${NOBODY}:60000`);
      const listener = connect();
      listener.on("message", (_, message: string) => void tell(confirmed(message.split(" ")[2] ?? "", NOBODY)));
      await listener.subscribe(channelOf(NOBODY));
      await cache.invalidate("k");
      expect(cache.stats().fenceWaits).toBe(0);
    });
  });

  describe("who writes keys", () => {
    it.each(["own", "frozen"] as const)(
      "decides what is read, and pollutes no prototype with it (values: %s)",
      async (values) => {
        const forged =
          '{"__proto__":{"polluted":[1]},"constructor":{"prototype":{"polluted":1}},"a":{"__proto__":null}}';
        await attacker.hset(`${namespace}k`, { v: forged, delta: "0", expiry: "9999999999" });
        const cache = open({ values, memory: new Map(), memoryLease: 60 });
        await cache.getOrSet("mailbox", 60, () => 1);
        await warm(cache);
        for (let read = 0; read < 5; read++) {
          const value = await cache.getOrSet<object>("k", 60, unused);
          expect(JSON.stringify(value)).toBe(forged);
          expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
          expect("polluted" in value).toBe(false);
        }
        expect("polluted" in {}).toBe(false);
      },
    );

    it("and a lock, lets a call wait for 2 * waitForLock, and then the value is stored all the same", async () => {
      await attacker.set(`${namespace}k:lock`, "somebody", "PX", 60_000);
      const cache = open({ waitForLock: 0.05 });
      expect(await cache.getOrSet("k", 60, () => "value")).toBe("value");
      expect(cache.stats()).toMatchObject({ takeovers: 1, refusedStores: 0 });
      expect(await open().getOrSet("k", 60, unused)).toBe("value");
    });

    it("takes a tag away, or gives it another state: a miss for its entries, and no more", async () => {
      const cache = open();
      const made: number[] = [];
      const read = () => cache.getOrSet("k", 60, () => made.push(1), { tags: ["t"] });
      await read();
      for (const forgery of [
        () => attacker.del(`${namespace}t:tag`),
        () => attacker.hset(`${namespace}t:tag`, "state", ""),
        () => attacker.hset(`${namespace}t:tag`, "state", Buffer.from([255, 44, 0])),
        () => attacker.hset(`${namespace}k`, "tags", "x,y"),
      ]) {
        const before = made.length;
        await forgery();
        await read();
        await read();
        expect(made.length).toBe(before + 1);
      }
      await cache.invalidateTags("t");
      await read();
      expect(made).toHaveLength(6);
    });
  });

  describe("a value", () => {
    it("is in no event and in no counter", async () => {
      const seen: unknown[] = [];
      const listener = (message: unknown) => seen.push(message);
      const names = ["hit", "miss", "rebuild-start", "rebuild-end", "wait", "copy-dropped", "refused-store"];
      for (const name of names) subscribe(`cachefence:${name}`, listener);
      const cache = open({ memory: new Map(), memoryLease: 60 });
      await cache.getOrSet("k", 60, () => "secret");
      await warm(cache);
      await cache.set("k", 60, "secret");
      await cache.getOrSet("other", 60, async () => {
        await open().invalidate("other");
        return "secret";
      });
      for (const name of names) unsubscribe(`cachefence:${name}`, listener);
      expect(seen.length).toBeGreaterThan(5);
      expect(inspect([seen, cache.stats()], { depth: null })).not.toContain("secret");
    });

    it("can be in part in the error of one that cannot be read, and whole in the command of a Redis error", async () => {
      const errors: string[] = [];
      const listener = (message: unknown) => errors.push(String((message as { error: unknown }).error));
      subscribe("cachefence:corrupt-entry", listener);
      await attacker.hset(`${namespace}k`, { v: "secret", delta: "0", expiry: "9999999999" });
      await open().getOrSet("k", 60, () => 1);
      unsubscribe("cachefence:corrupt-entry", listener);
      expect(errors.join()).toMatch(/"?s/);

      await attacker.call("ACL", "SETUSER", "narrow", "reset", "on", ">p", "~elsewhere:*", "&*", "+@all");
      const cache = open({}, OTHER, connect({ username: "narrow", password: "p" }));
      const error: unknown = await cache.set("k", 60, "secret").catch((thrown: unknown) => thrown);
      expect(String(error)).not.toContain("secret");
      const { command } = error as { command?: { args: unknown[] } };
      expect(command?.args.map(String)).toContain('"secret"');
    });
  });

  describe.each([
    ["with scripting", "+eval +evalsha"],
    ["without scripting", "+watch +unwatch +multi +exec"],
  ])("an application %s", (way, steps) => {
    const scripting = ["+eval", "+evalsha"];
    const commands = [...rightsOfSecurityMd().filter((one) => !scripting.includes(one)), ...steps.split(" ")];

    /** Everything that cachefence does, by two members of one user. */
    async function useAll(): Promise<void> {
      const login = { username: "app", password: "p", enableReadyCheck: false, disableClientInfo: true };
      const options = { memory: new Map(), memoryLease: 60, lockTimeout: 3, waitForLock: 3 };
      const [one, two] = [open(options, VICTIM, connect(login)), open(options, OTHER, connect(login))];
      const rejected = (promise: Promise<unknown>) => expect(promise).rejects.toThrow();
      const finish = deferred();
      const tagged = { tags: ["t"] };
      const holder = one.getOrSet("k", 60, () => finish.promise, tagged);
      await until("it is locked", async () => (await attacker.strlen(`${namespace}k:lock`)) > 0);
      const waiter = two.getOrSet("k", 60, unused, tagged);
      // Past a third of the lease: it is renewed.
      setTimeout(finish.resolve, 1_200);
      await Promise.all([holder, waiter]);
      await rejected(one.getOrSet("fails", 60, unused));
      await one.getOrSet("fenced", 60, () => two.invalidate("fenced"));
      await two.getOrSetMany(
        ["a", "b"],
        (item) => `many:${item}`,
        60,
        (items) => items,
      );
      await attacker.psetex(`${namespace}foreign`, 60_000, "theirs");
      await rejected(one.getOrSet("foreign", 60, unused));
      // The lock of a holder that is dead, and one that is waited for in vain.
      await attacker.psetex(`${namespace}dead:lock`, 60_000, `cachefence:L${NOBODY}-0`);
      await attacker.psetex(`${namespace}slow:lock`, 60_000, "python");
      await Promise.all(["dead", "slow"].map((key) => one.getOrSet(key, 60, () => 1)));
      for (const cache of [one, two]) {
        for (let read = 0; read < 4; read++) await cache.getOrSet("k", 60, unused, tagged);
      }
      await one.set("k", 60, 1, tagged);
      await one.invalidateTags("t");
      await two.invalidate("k");
      await Promise.all([one.idle(), two.idle()]);
      expect([one, two].map((cache) => cache.stats().redisErrors)).toEqual([0, 0]);
      expect(one.stats().memoryHits > 0).toBe(way === "with scripting");
      await Promise.all([one.close(), two.close()]);
    }

    it("needs the commands, keys and channels of SECURITY.md, and no others", async () => {
      expect(document).toContain(steps);
      const rights = ["resetkeys", `~${namespace}*`, "resetchannels", "&cachefence:*", "-@all", ...commands];
      await attacker.call("ACL", "SETUSER", "app", "reset", "on", ">p", ...rights);
      await attacker.call("ACL", "LOG", "RESET");
      await attacker.config("RESETSTAT");
      await useAll();
      const log = (await attacker.call("ACL", "LOG")) as string[][];
      const denied = log.map((entry) => entry[entry.indexOf("object") + 1]);
      // Whether scripting is denied is known only when it has been tried.
      expect(denied).toEqual(way === "with scripting" ? [] : ["eval"]);
      const statistics = await attacker.info("commandstats");
      const used = [...statistics.matchAll(/^cmdstat_([^:]+):calls=[1-9]/gm)].map(([, name]) => `+${name ?? ""}`);
      // Redis 6.2 counts no subcommands apart.
      const isUsed = (one: string) => used.includes(one) || used.includes(one.split("|")[0] ?? "");
      expect(commands.filter((one) => !isUsed(one))).toEqual([]);
    });
  });

  it("an application in cluster mode needs the names with a brace too", async () => {
    const node = await startRedis({ args: ["--cluster-enabled", "yes"] });
    const admin = new Redis(node.url);
    try {
      await admin.call("CLUSTER", "ADDSLOTS", ...Array.from({ length: 16_384 }, (_, slot) => String(slot)));
      await until("it serves", async () => String(await admin.call("CLUSTER", "INFO")).includes("cluster_state:ok"));
      const rights = [`~${namespace}*`, `~{${namespace}*`, "&cachefence:*", "-@all", ...rightsOfSecurityMd()];
      await admin.call("ACL", "SETUSER", "app", "on", ">p", "resetchannels", ...rights);
      const login = { username: "app", password: "p", enableReadyCheck: false, disableClientInfo: true };
      const client = new Redis(node.port, node.host, login);
      clients.push(client);
      const cache = open({ memory: new Map(), memoryLease: 60 }, OTHER, client);
      const read = (value: string) => cache.getOrSet("k", 60, () => value, { tags: ["t"] });
      for (let count = 0; count < 5; count++) expect(await read("old")).toBe("old");
      expect(cache.stats().memoryHits).toBeGreaterThan(0);
      await cache.invalidateTags("t");
      expect(await read("new")).toBe("new");
      await cache.invalidate("k");
      expect(await read("newer")).toBe("newer");
      expect(await admin.call("ACL", "LOG")).toEqual([]);
      await admin.call("ACL", "SETUSER", "app", "resetkeys", `~${namespace}*`);
      await expect(cache.invalidate("k")).rejects.toThrow(/NOPERM/);
    } finally {
      admin.disconnect();
      await node.stop();
    }
  });
});
