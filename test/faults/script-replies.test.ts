import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { type ErrorKind, kindOf, wordsOf } from "../../src/link/replies.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";

// The versions of the servers differ in their words, most of all in those of a script. What each says is provoked here, so
// that a run against another version (`npm run test:servers`) tells of words that are new.
describeOwnRedis("what this server replies", () => {
  let server: RedisServer;
  let admin: Redis;
  let limited: Redis;
  let prefix: string;

  beforeAll(async () => {
    server = await startRedis();
    admin = new Redis(server.url);
  });
  afterAll(async () => {
    admin.disconnect();
    await server.stop();
  });
  beforeEach(() => {
    prefix = uniquePrefix();
  });
  afterEach(() => limited.disconnect());

  async function openLimited(...rules: string[]): Promise<void> {
    await admin.acl("SETUSER", "limited", "reset", "on", ">secret", `~${prefix}*`, "&*", "+@all", ...rules);
    limited = new Redis({ port: server.port, host: server.host, username: "limited", password: "secret" });
  }

  async function errorOf(reply: Promise<unknown>): Promise<Error> {
    return reply.then(
      (value: unknown) => new Error(`No error but ${String(value)}`),
      (thrown: unknown) => thrown as Error,
    );
  }

  type Provocation = readonly [
    what: string,
    kind: ErrorKind,
    words: RegExp,
    rules: readonly string[],
    config: readonly [name: string, refuses: string, back: string] | undefined,
    command: (prefix: string) => readonly string[],
  ];
  const hset = (prefix: string) => ["HSET", `${prefix}key`, "f", "v"];
  const provocations: readonly Provocation[] = [
    ["a command that is denied", "key", /permission|can't run|hset/i, ["-hset"], undefined, hset],
    ["a key that is denied", "key", /permission|can't access/i, [], undefined, () => ["HSET", "elsewhere", "f", "v"]],
    ["another type", "key", /^WRONGTYPE /, [], undefined, (prefix) => ["HSET", `${prefix}string`, "f", "v"]],
    ["no memory", "passing", /^OOM /, [], ["maxmemory", "1", "0"], hset],
    ["a command that it does not know", "passing", /unknown/i, [], undefined, () => ["NONSENSE", "argument"]],
  ];

  it.each(provocations)("to %s is told to be of the kind %s", async (_, kind, words, rules, config, command) => {
    await openLimited(...rules);
    const args = command(prefix);
    await admin.set(`${prefix}string`, "text");
    if (config !== undefined) await admin.config("SET", config[0], config[1]);
    try {
      const [name, ...rest] = args;
      const lua = args.map((_, at) => `ARGV[${String(at + 1)}]`).join(", ");
      const replies = [
        ["the command", limited.call(name!, ...rest)],
        ["a script that raises it", limited.eval(`return redis.call(${lua})`, 0, ...args)],
        ["a script that hands it back", limited.eval(`return redis.pcall(${lua})`, 0, ...args)],
      ] as const;
      for (const [from, reply] of replies) {
        const { message } = await errorOf(reply);
        expect.soft([from, kindOf(new Error(message))], message).toEqual([from, kind]);
        expect.soft(wordsOf(message)).toMatch(words);
        expect.soft(wordsOf(message)).not.toContain("user_script");
      }
    } finally {
      if (config !== undefined) await admin.config("SET", config[0], config[2]);
    }
  });

  it("to a script that it does not know, or that is denied, is told apart", async () => {
    await openLimited();
    expect(kindOf(await errorOf(limited.evalsha("0".repeat(40), 0)))).toBe("no-script");
    limited.disconnect();
    await openLimited("-@scripting");
    expect(kindOf(await errorOf(limited.evalsha("0".repeat(40), 0)))).toBe("scripting-denied");
    expect(kindOf(await errorOf(limited.eval("return 1", 0)))).toBe("scripting-denied");
  });
});
