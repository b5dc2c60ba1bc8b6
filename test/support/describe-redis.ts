import { randomBytes } from "node:crypto";
import { describe, inject } from "vitest";

/** `describe` for tests on the shared server; without one they are skipped, and the run says so. */
export function describeRedis(name: string, suite: (redisUrl: string) => void): void {
  const url = inject("redisUrl");
  if (url === undefined) describe.skip(`${name} [NOT TESTED: no Redis server]`, () => suite("redis://127.0.0.1:1"));
  else describe(name, () => suite(url));
}

/** `describe` for tests that start servers of their own with `startRedis`; without a program to start they are skipped. */
export function describeOwnRedis(name: string, suite: () => void): void {
  if (inject("redisBinary") === undefined) describe.skip(`${name} [NOT TESTED: no redis-server to start]`, suite);
  else describe(name, suite);
}

/** A prefix that no other test file, run or application uses. */
export function uniquePrefix(): string {
  return `cachefence-test:${randomBytes(8).toString("hex")}:`;
}

interface KeyRemover {
  scan(cursor: string, match: "MATCH", pattern: string, count: "COUNT", size: number): Promise<[string, string[]]>;
  del(...keys: string[]): Promise<number>;
}

/**
 * Removes the keys that contain a prefix of `uniquePrefix`, wherever in the key it stands: a lock of a Cluster client is
 * `{<prefix>...}:lock`. The client must have no `keyPrefix`, which SCAN would not apply but DEL would.
 */
export async function removeKeys(redis: KeyRemover, prefix: string): Promise<void> {
  let cursor = "0";
  do {
    const [next, keys] = await redis.scan(cursor, "MATCH", `*${prefix}*`, "COUNT", 1_000);
    for (const key of keys) await redis.del(key);
    cursor = next;
  } while (cursor !== "0");
}
