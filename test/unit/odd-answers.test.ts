import { CacheFence } from "cachefence";
import { expect, it } from "vitest";
import type { RedisClient } from "../../src/link/redis-client.js";

/** A client on which every script is answered so, as by a proxy that mixes replies up. */
function clientThatAnswers(reply: unknown): RedisClient {
  const answer = () => Promise.resolve(reply);
  const others = Object.fromEntries(
    ["hmgetBuffer", "set", "get", "pttl", "type", "time", "zadd", "zrem", "publish", "pexpire"].map((name) => [
      name,
      () => Promise.resolve(null),
    ]),
  );
  const listening = { on: () => 0, once: () => 0, off: () => 0 };
  return { status: "ready", ...others, ...listening, eval: answer, evalsha: answer } as unknown as RedisClient;
}

it.each([
  ["a value of somebody's", "secret"],
  ["one value too few", ["done", "0123456789abcdef"]],
  ["a time that is no number", ["done", "0123456789abcdef", "secret"]],
  ["nothing", null],
])("an answer that no script gives is a failure of Redis, and no silence: %s", async (_, reply) => {
  const cache = new CacheFence(clientThatAnswers(reply));
  const fence = cache.invalidate("k");
  await expect(fence).rejects.toMatchObject({ name: "RedisUnavailableError", key: "k" });
  await expect(fence).rejects.toThrow(/^Expected the answer of a script, got (?!.*secret)/);
  expect(cache.stats().redis).toBe("ready");
});
