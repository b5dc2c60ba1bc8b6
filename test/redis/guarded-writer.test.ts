import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { GuardedWrite, LockCondition, Write } from "../../src/protocol/guarded-write.js";
import { script } from "../../src/protocol/guarded-write.js";
import { GuardedWriter } from "../../src/protocol/guarded-writer.js";
import { KeyNaming } from "../../src/protocol/key-names.js";
import { systemRuntime } from "../../src/runtime.js";
import { describeOwnRedis } from "../support/describe-redis.js";
import type { IoredisMajor } from "../support/ioredis.js";
import { majors } from "../support/ioredis.js";
import type { RedisServer } from "../support/redis-server.js";
import { startRedis } from "../support/redis-server.js";

const token = "cachefence:0123";
const delLock: Write = { verb: "del", on: "lock", args: [] };
const delEntry: Write = { verb: "del", on: "entry", args: [] };
const storeEntry: Write[] = [
  { verb: "hset", on: "entry", args: ["v", Buffer.from([0, 255, 10]), "delta", "0.5", "expiry", "9"] },
  { verb: "pexpire", on: "entry", args: ["60000"] },
];
const ours = { v: "old", delta: "1", expiry: "2" };

interface Case {
  readonly name: string;
  /** What is there before. */
  readonly lock?: string | Record<string, string>;
  readonly lockHasLease?: false;
  readonly entry?: string | string[] | Record<string, string>;
  readonly condition: LockCondition;
  readonly writes: Write[];
  /** The outcome, or the message of the error. */
  readonly outcome: "done" | "refused" | "foreign" | RegExp;
}

const cases: Case[] = [
  { name: "acts on exactly its token", lock: token, condition: { is: token }, writes: [delLock], outcome: "done" },
  { name: "refuses a free lock", condition: { is: token }, writes: [delLock], outcome: "refused" },
  { name: "refuses another token", lock: "other", condition: { is: token }, writes: [delLock], outcome: "refused" },
  {
    name: "refuses a token that only begins with its own",
    lock: `${token}:taker`,
    condition: { is: token },
    writes: [delLock],
    outcome: "refused",
  },
  {
    name: "acts on a lock that begins with its token",
    lock: `${token}:taker`,
    condition: { beginsWith: token },
    writes: [delLock, ...storeEntry],
    outcome: "done",
  },
  {
    name: "refuses a lock that begins otherwise",
    lock: "cachefence:9999",
    entry: ours,
    condition: { beginsWith: token },
    writes: [delLock, ...storeEntry],
    outcome: "refused",
  },
  {
    name: "refuses to store when the lock is gone",
    entry: ours,
    condition: { beginsWith: token },
    writes: [delLock, ...storeEntry],
    outcome: "refused",
  },
  {
    name: "takes a lock's characters as they are, not as a pattern",
    lock: "cachefence:01234",
    condition: { beginsWith: "cachefence:....4" },
    writes: [delLock],
    outcome: "refused",
  },
  {
    name: "replaces a lock that it was to replace",
    lock: "python-hex",
    condition: { is: "python-hex" },
    writes: [{ verb: "set", on: "lock", args: [token, "PX", "5000"] }],
    outcome: "done",
  },
  {
    name: "renews its lease",
    lock: token,
    condition: { is: token },
    writes: [{ verb: "pexpire", on: "lock", args: ["50000"] }],
    outcome: "done",
  },
  { name: "fences a key with nothing there", condition: "any", writes: [delLock, delEntry], outcome: "done" },
  {
    name: "fences a key and whoever holds its lock",
    lock: "anybody's",
    entry: ours,
    condition: "any",
    writes: [delLock, delEntry],
    outcome: "done",
  },
  {
    name: "leaves a string without a lease at the lock's name alone",
    lock: "somebody's",
    lockHasLease: false,
    entry: ours,
    condition: "any",
    writes: [delLock, delEntry],
    outcome: "foreign",
  },
  {
    name: "leaves a hash at the lock's name alone when it fences",
    lock: { a: "1" },
    entry: ours,
    condition: "any",
    writes: [delLock, delEntry],
    outcome: /WRONGTYPE/,
  },
  {
    name: "leaves a hash at the lock's name alone when it stores",
    lock: { a: "1" },
    condition: { beginsWith: token },
    writes: [delLock, ...storeEntry],
    outcome: /WRONGTYPE/,
  },
  {
    name: "leaves a hash without `v` alone, and the lock with it",
    lock: token,
    entry: { field: "theirs" },
    condition: { beginsWith: token },
    writes: [delLock, ...storeEntry],
    outcome: "foreign",
  },
  {
    name: "does not remove a hash without `v`",
    entry: { field: "theirs" },
    condition: "any",
    writes: [delLock, delEntry],
    outcome: "foreign",
  },
  {
    name: "leaves a string at the entry alone",
    lock: token,
    entry: "theirs",
    condition: "any",
    writes: [delLock, delEntry],
    outcome: /WRONGTYPE/,
  },
  {
    name: "leaves a list at the entry alone when it stores",
    lock: token,
    entry: ["theirs"],
    condition: { beginsWith: token },
    writes: [delLock, ...storeEntry],
    outcome: /WRONGTYPE/,
  },
  {
    name: "looks at no entry that it does not write",
    lock: token,
    entry: "theirs",
    condition: { is: token },
    writes: [delLock],
    outcome: "done",
  },
];

interface Way {
  readonly name: string;
  readonly args: string[];
  /** What the server makes of the client's user, after it has started. */
  readonly acl?: string[];
  readonly usesScript: boolean;
}

const ways: Way[] = [
  { name: "by script", args: [], usesScript: true },
  {
    name: "by WATCH, with EVAL and EVALSHA renamed away",
    args: ["--rename-command", "EVAL", "", "--rename-command", "EVALSHA", ""],
    usesScript: false,
  },
  {
    name: "by WATCH, with a user that lacks @scripting",
    args: [],
    acl: ["on", ">secret", "~*", "&*", "+@all", "-@scripting"],
    usesScript: false,
  },
];

async function callsOf(redis: Redis, command: string): Promise<number> {
  const found = new RegExp(`^cmdstat_${command}:calls=(\\d+)`, "m").exec(await redis.info("commandstats"));
  return Number(found?.[1] ?? 0);
}

for (const way of ways) {
  for (const major of majors) {
    describeOwnRedis(`guarded writes ${way.name}, ioredis ${major.name}`, () => {
      suite(way, major);
    });
  }
}

function suite(way: Way, major: IoredisMajor): void {
  let server: RedisServer;
  let raw: Redis;
  const closing: (() => void)[] = [];

  beforeAll(async () => {
    server = await startRedis({ args: way.args });
    raw = new major.Redis(server.port, server.host);
    if (way.acl !== undefined) await raw.acl("SETUSER", "limited", ...way.acl);
  });
  afterEach(async () => {
    for (const close of closing.splice(0)) close();
    for (const key of await raw.keys("*")) await raw.del(key);
  });
  afterAll(async () => {
    raw.disconnect();
    await server.stop();
  });

  function open(keyPrefix = ""): {
    client: Redis;
    writer: GuardedWriter;
    run: (write: GuardedWrite) => Promise<string>;
  } {
    const user = way.acl === undefined ? {} : { username: "limited", password: "secret" };
    const client = new major.Redis({ port: server.port, host: server.host, keyPrefix, ...user });
    const writer = new GuardedWriter(client, 2_000, systemRuntime);
    closing.push(() => {
      writer.close();
      client.disconnect();
    });
    return { client, writer, run: (write) => writer.run(client, write) };
  }

  async function put(key: string, what: Case["entry"], leaseMs?: number): Promise<void> {
    if (typeof what === "string") await raw.set(key, what);
    else if (Array.isArray(what)) await raw.rpush(key, ...what);
    else if (what !== undefined) await raw.hset(key, what);
    if (what !== undefined && leaseMs !== undefined) await raw.pexpire(key, leaseMs);
  }

  /** Everything that is there, with its lifetime to the ten seconds. */
  async function dump(): Promise<Record<string, unknown>> {
    const all: Record<string, unknown> = {};
    for (const key of (await raw.keys("*")).sort()) {
      const ttlMs = await raw.pttl(key);
      all[key] = [await readBack(key), ttlMs === -1 ? -1 : Math.ceil(ttlMs / 10_000) * 10];
    }
    return all;
  }

  async function readBack(key: string): Promise<unknown> {
    const type = await raw.type(key);
    if (type === "string") return raw.get(key);
    if (type === "list") return raw.lrange(key, 0, -1);
    const fields = await raw.hgetallBuffer(key);
    return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, value.toString("latin1")]));
  }

  describe.each(["", "prefix:"])("keyPrefix %o", (keyPrefix) => {
    it.each(cases)("$name", async ({ lock, lockHasLease, entry, condition, writes, outcome }) => {
      const { client, run } = open(keyPrefix);
      await put(`${keyPrefix}k:lock`, lock, lockHasLease === false || typeof lock === "object" ? undefined : 10_000);
      await put(`${keyPrefix}k`, entry);
      const before = await dump();
      const names = new KeyNaming(client, "").namesOf("k");
      const got = run({ names, condition, writes, news: "stored" });
      if (outcome instanceof RegExp) await expect(got).rejects.toThrow(outcome);
      else expect(await got).toBe(outcome);

      const after = { ...before };
      if (outcome === "done") {
        for (const { verb, on, args } of writes) {
          const key = `${keyPrefix}${on === "lock" ? "k:lock" : "k"}`;
          if (verb === "del") Reflect.deleteProperty(after, key);
          else if (verb === "set") after[key] = [args[0], 10];
          else if (verb === "hset") after[key] = [{ v: "\0\xff\n", delta: "0.5", expiry: "9" }, -1];
          else after[key] = [(after[key] as [unknown, unknown])[0], Number(args[0]) / 1000];
        }
      }
      expect(await dump()).toEqual(after);
    });
  });

  it("goes the way that the server allows", async () => {
    await raw.config("RESETSTAT");
    const { client, run } = open();
    const names = new KeyNaming(client, "").namesOf("k");
    for (let round = 0; round < 3; round++) await run({ names, condition: "any", writes: [delLock] });
    expect(await callsOf(raw, "watch")).toBe(way.usesScript ? 0 : 3);
    expect((await callsOf(raw, "eval")) + (await callsOf(raw, "evalsha"))).toBe(way.usesScript ? 3 : 0);
  });

  it.each([
    ["done", "stored", ["stored"]],
    ["refused", "stored", []],
  ] as const)("publishes its news after a write that is %s", async (outcome, news, expected) => {
    const { client, run } = open();
    const names = new KeyNaming(client, "").namesOf("k");
    const heard: string[] = [];
    const subscriber = raw.duplicate();
    closing.push(() => subscriber.disconnect());
    await subscriber.subscribe(names.channel, "end");
    const ended = new Promise<void>((resolve) => {
      subscriber.on("message", (channel: string, message: string) => {
        if (channel === "end") resolve();
        else heard.push(message);
      });
    });
    if (outcome === "done") await raw.set(names.lock, token, "PX", 10_000);
    expect(await run({ names, condition: { is: token }, writes: [delLock], news })).toBe(outcome);
    // One more write on the same way: what the first has published is out by the time that it is done.
    await run({ names, condition: "any", writes: [delLock] });
    await raw.publish("end", "");
    await ended;
    expect(heard).toEqual(expected);
  });

  it("lets of many writers of one token one act, whatever their number", async () => {
    const writers = Array.from({ length: 4 }, () => open());
    const names = new KeyNaming(writers[0]!.client, "").namesOf("k");
    await raw.set(names.lock, "held", "PX", 10_000);
    const outcomes = await Promise.all(
      Array.from({ length: 40 }, (_, at) =>
        writers[at % 4]!.run({
          names,
          condition: { is: "held" },
          writes: [{ verb: "set", on: "lock", args: [`taker ${at}`, "PX", "10000"] }],
        }),
      ),
    );
    expect(outcomes.filter((outcome) => outcome === "done")).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome === "refused")).toHaveLength(39);
    expect(await raw.get(names.lock)).toBe(`taker ${outcomes.indexOf("done")}`);
  });

  it("is not disturbed by other transactions on the caller's client", async () => {
    const { client, run } = open();
    const names = new KeyNaming(client, "").namesOf("k");
    for (let round = 0; round < 50; round++) {
      await raw.set(names.lock, token, "PX", 10_000);
      const [outcome] = await Promise.all([
        run({ names, condition: { is: "not mine" }, writes: [delLock] }),
        client.multi().set("other", "1").exec(),
        client.unwatch(),
        run({ names: { ...names, lock: "other:lock" }, condition: { is: token }, writes: [delLock] }),
      ]);
      expect(outcome).toBe("refused");
      expect(await raw.get(names.lock)).toBe(token);
    }
  });

  it("opens at most one connection of its own, and closes it", async () => {
    const before = (await raw.client("LIST")) as string;
    const { client, writer, run } = open();
    const names = new KeyNaming(client, "").namesOf("k");
    for (let round = 0; round < 20; round++) await run({ names, condition: "any", writes: [delLock] });
    const count = (list: unknown) => String(list).trim().split("\n").length;
    expect(count(await raw.client("LIST")) - count(before)).toBe(way.usesScript ? 1 : 2);
    writer.close();
    await expect.poll(async () => count(await raw.client("LIST")) - count(before)).toBe(1);
  });
}

for (const major of majors) {
  describeOwnRedis(`a change of what the server allows, ioredis ${major.name}`, () => {
    let server: RedisServer;
    let raw: Redis;

    beforeAll(async () => {
      server = await startRedis();
      raw = new major.Redis(server.port, server.host);
    });
    afterAll(async () => {
      raw.disconnect();
      await server.stop();
    });

    it("is noticed: scripts flushed, scripting denied, allowed again after a reconnect", async () => {
      await raw.acl("SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all");
      const client = new major.Redis({
        port: server.port,
        host: server.host,
        username: "limited",
        password: "secret",
        retryStrategy: () => 1,
      });
      const writer = new GuardedWriter(client, 2_000, systemRuntime);
      const names = new KeyNaming(client, "").namesOf("k");
      const run = () => writer.run(client, { names, condition: "any", writes: [delLock] });
      const stats = async () => [
        await callsOf(raw, "eval"),
        await callsOf(raw, "evalsha"),
        await callsOf(raw, "watch"),
      ];
      try {
        await client.ping();
        await raw.config("RESETSTAT");
        // The text once, the hash from then on.
        for (let round = 0; round < 3; round++) expect(await run()).toBe("done");
        expect(await stats()).toEqual([1, 2, 0]);
        expect(await raw.script("EXISTS", script.sha1)).toEqual([1]);

        await raw.script("FLUSH");
        expect(await run()).toBe("done");
        expect((await stats())[0]).toBe(2);

        await raw.acl("SETUSER", "limited", "-@scripting");
        const [evals, , watches] = await stats();
        for (let round = 0; round < 3; round++) expect(await run()).toBe("done");
        expect(await stats()).toEqual([evals, expect.any(Number), watches! + 3]);

        // Allowed again, but the connection does not know.
        await raw.acl("SETUSER", "limited", "+@scripting");
        expect(await run()).toBe("done");
        expect((await stats())[2]).toBe(watches! + 4);

        // Either connection may be the first to be another one: the caller's, or the one that watches.
        const again = new Promise((resolve) => client.once("ready", resolve));
        await raw.client("KILL", "ID", await client.client("ID"));
        await again;
        expect(await run()).toBe("done");
        expect((await stats())[2]).toBe(watches! + 4);

        await raw.acl("SETUSER", "limited", "-@scripting");
        expect(await run()).toBe("done");
        await raw.acl("SETUSER", "limited", "+@scripting");
        expect(await run()).toBe("done");
        expect((await stats())[2]).toBe(watches! + 6);
        const own = await client.client("ID");
        const watching = String(await raw.client("LIST"))
          .split("\n")
          .filter((line) => line.includes("user=limited"))
          .map((line) => Number(/id=(\d+)/.exec(line)?.[1]))
          .find((id) => id !== own);
        await raw.client("KILL", "ID", watching!);
        await expect
          .poll(async () => {
            const before = (await stats())[2];
            await run();
            return (await stats())[2]! - before!;
          })
          .toBe(0);
      } finally {
        writer.close();
        client.disconnect();
      }
    });

    it("surfaces a key that an ACL denies, by script and by WATCH", async () => {
      for (const scripting of ["+@scripting", "-@scripting"]) {
        await raw.acl("SETUSER", "narrow", "reset", "on", ">secret", "~allowed*", "&*", "+@all", scripting);
        const client = new major.Redis({
          port: server.port,
          host: server.host,
          username: "narrow",
          password: "secret",
        });
        const writer = new GuardedWriter(client, 2_000, systemRuntime);
        const naming = new KeyNaming(client, "");
        const run = (key: string) =>
          writer.run(client, { names: naming.namesOf(key), condition: "any", writes: [delLock] });
        await expect(run("denied")).rejects.toThrow(/NOPERM/);
        expect(await run("allowed")).toBe("done");
        writer.close();
        client.disconnect();
      }
    });
  });
}
