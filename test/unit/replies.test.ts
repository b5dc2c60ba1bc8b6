import { describe, expect, it } from "vitest";
import { type ErrorKind, inRedisWords, isQueued, kindOf, wordsOf } from "../../src/link/replies.js";

const sha1 = "0a1b2c3d4e".repeat(4);
const oom = "OOM command not allowed when used memory > 'maxmemory'.";
const readOnly = "READONLY You can't write against a read only replica.";

const table: [kind: ErrorKind, messages: [where: string, message: string][]][] = [
  [
    "key",
    [
      ["every version", "WRONGTYPE Operation against a key holding the wrong kind of value"],
      ["6.2", "NOPERM this user has no permissions to access one of the keys used as arguments"],
      ["6.2", "NOPERM this user has no permissions to run the 'hmget' command or its subcommand"],
      ["7.0", "NOPERM No permissions to access a key"],
      ["7.4, 8.0, Valkey", "NOPERM User u has no permissions to run the 'hmget' command"],
      ["6.2, in a script", "@user_script: 29: The user executing the script can't run this command or subcommand"],
      [
        "6.2, in a script",
        "@user_script: 29: The user executing the script can't access at least one of the keys mentioned in the command arguments",
      ],
      ["6.2, raised by a script", `ERR Error running script (call to f_${sha1}): @user_script:6: WRONGTYPE Operation`],
      [
        "6.2, raised by a script",
        `ERR Error running script (call to f_${sha1}): @user_script:6: @user_script: 6: The user executing the script can't run this command or subcommand`,
      ],
      ["7.0, in a script", "ERR The user executing the script can't run this command or subcommand"],
      [
        "7.0, in a script",
        "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
      ],
      ["7.0, raised by a script", `WRONGTYPE Operation against a key script: ${sha1}, on @user_script:6.`],
      [
        "7.4, 8.0, Valkey, in a script",
        "ERR ACL failure in script: User u has no permissions to run the 'hset' command",
      ],
      ["7.4, 8.0, Valkey, in a script", "ERR ACL failure in script: No permissions to access a key"],
    ],
  ],
  [
    "scripting-denied",
    [
      ["6.2, renamed away", "ERR unknown command `evalsha`, with args beginning with: `0a1b`, `1`, `key`, "],
      ["7.0, renamed away", "ERR unknown command 'eval', with args beginning with: 'return 1' '0' "],
      ["7.0, renamed away", "ERR unknown command 'EVALSHA', with args beginning with: '0a1b' "],
      ["6.2, 7.0, by ACL", "NOPERM this user has no permissions to run the 'eval' command or its subcommand"],
      ["7.4, 8.0, Valkey, by ACL", "NOPERM User u has no permissions to run the 'evalsha' command"],
    ],
  ],
  ["no-script", [["every version", "NOSCRIPT No matching script. Please use EVAL."]]],
  [
    "passing",
    [
      ["every version", oom],
      ["every version", readOnly],
      ["every version", "LOADING Redis is loading the dataset in memory"],
      ["every version", "NOREPLICAS Not enough good replicas to write."],
      ["every version", "MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist"],
      ["every version", "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."],
      ["every version", "CLUSTERDOWN Hash slot not served"],
      ["every version", "TRYAGAIN Multiple keys request during rehashing of slot"],
      ["every version", "EXECABORT Transaction discarded because of previous errors."],
      ["every version", "ERR max number of clients reached"],
      ["every version", "ERR unknown command 'hset', with args beginning with: 'eval' "],
      ["6.2, in a script", `@user_script: 29: -${oom}`],
      ["6.2, in a script", `@user_script: 29: -${readOnly}`],
      ["6.2, in a script", "@user_script: 29: Unknown Redis command called from Lua script"],
      ["7.0, raised by a script", `${oom} script: ${sha1}, on @user_script:29.`],
      ["older", `-${oom}`],
    ],
  ],
  [
    "no-reply",
    [
      ["ioredis", "Connection is closed."],
      ["ioredis", "Command timed out"],
      ["ioredis", "Reached the max retries per request limit (which is 20). Refer to ..."],
      ["ioredis", "Stream isn't writeable and enableOfflineQueue options is false"],
      ["ioredis", "Too many Cluster redirections. Last error: ReplyError: MOVED 866 127.0.0.1:7001"],
      ["ioredis", "Cannot read properties of undefined (reading 'join')"],
      ["node", "connect ECONNREFUSED 127.0.0.1:6379"],
      ["node", "ECONNRESET"],
      ["node", ""],
    ],
  ],
];

describe.each(table)("an error that is of the kind %s", (kind, messages) => {
  it.each(messages)("%s: %s", (_, message) => {
    expect(kindOf(new Error(message))).toBe(kind);
  });
});

it("tells what is no error at all from a reply", () => {
  for (const thrown of [undefined, null, "WRONGTYPE", { message: "NOPERM" }]) expect(kindOf(thrown)).toBe("no-reply");
});

it("is shown without the words of the script in which it happened", () => {
  expect(wordsOf(`@user_script: 29: -${oom}`)).toBe(oom);
  expect(wordsOf(`ERR Error running script (call to f_${sha1}): @user_script:29: @user_script: 29: -${oom}`)).toBe(oom);
  expect(wordsOf(`${oom} script: ${sha1}, on @user_script:29.`)).toBe(oom);
  expect(wordsOf(`${oom} script: on @user_script:29.`)).toBe(oom);
  const plain = new Error(oom);
  expect(inRedisWords(plain)).toBe(plain);
  const wrapped = new Error(`@user_script: 29: -${oom}`);
  wrapped.name = "ReplyError";
  expect(inRedisWords(wrapped)).toMatchObject({ name: "ReplyError", message: oom, cause: wrapped });
});

it("is no reply but a place in a queue, as text and as bytes", () => {
  for (const reply of ["QUEUED", Buffer.from("QUEUED")]) {
    expect(isQueued(reply)).toBe(true);
  }
  for (const reply of ["OK", null, undefined, [], ["QUEUED"], Buffer.from("queued"), 1]) {
    expect(isQueued(reply)).toBe(false);
  }
});
