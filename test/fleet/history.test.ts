import { setTimeout as sleep } from "node:timers/promises";
import { CacheFence } from "cachefence";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { describeRedis } from "../support/describe-redis.js";
import { Fleet } from "../support/fleet.js";
import { type LoggedFence, staleReads } from "../support/history.js";
import type { LoggedRead } from "../support/service-messages.js";

const testTimeoutMs = 120_000;
const invalidations = 1_000;

describeRedis("the history of a fleet", (redisUrl) => {
  let fleet: Fleet;
  let client: Redis;
  beforeAll(() => {
    fleet = new Fleet(redisUrl);
    client = new Redis(redisUrl);
  });
  afterEach(() => fleet.checkAndClear());
  afterAll(async () => {
    client.disconnect();
    await fleet.close();
  });

  it("tells a read that is older than a resolved invalidate from those that are not", () => {
    const fences = [[1, 2, 3].map((version) => ({ version, resolvedNs: BigInt(version * 100) }))];
    const reads: LoggedRead[] = [
      [0, "150", 0],
      [0, "150", 1],
      [0, "299", 2],
      [0, "301", 2],
      [0, "301", 4],
    ];
    expect(staleReads(reads, fences)).toEqual([
      "key 0: read version 0, begun after the invalidate of version 1",
      "key 0: read version 2, begun after the invalidate of version 3",
    ]);
  });

  it(
    `has no read older than an invalidate that had resolved, of ${invalidations} in 4 processes`,
    async () => {
      // So short that takeovers are part of the history too.
      const readers = await fleet.open(3, { waitForLock: 0.006 });
      const cache = new CacheFence(client, { namespace: fleet.prefix, redisTimeout: 20 });
      const keys = ["a", "b", "c"];
      const source = fleet.prefix + "source:";
      for (const key of keys) await client.set(source + key, 0);
      const logs = readers.map((reader) => reader.ask("readUntilStopped", { plan: { keys, readers: 12, source } }));
      const fences: LoggedFence[][] = keys.map(() => []);
      for (let count = 0; count < invalidations; count++) {
        const index = count % keys.length;
        const version = await client.incr(source + keys[index]!);
        // Some come while the recompute is at work, some between the rebuilds.
        await cache.invalidate(keys[index]!);
        fences[index]!.push({ version, resolvedNs: process.hrtime.bigint() });
        await sleep(Math.random() * 10);
      }
      await Promise.all(readers.map((reader) => reader.ask("stopReading", {})));
      const reads = (await Promise.all(logs)).flat();

      expect(staleReads(reads, fences)).toEqual([]);
      // The history holds what could have gone wrong: hits, joined rebuilds, refused stores, takeovers, in number.
      const stats = await Promise.all(readers.map((reader) => reader.ask("stats", {})));
      const sum = (name: Exclude<keyof (typeof stats)[number], "redis">) =>
        stats.reduce((total, one) => total + one[name], 0);
      expect(reads.length).toBeGreaterThan(invalidations);
      for (const name of ["hits", "coalesced", "waits", "refusedStores", "takeovers"] as const) {
        expect([name, sum(name) > 10]).toEqual([name, true]);
      }
      expect(sum("redisErrors")).toBe(0);
      await Promise.all(readers.map((reader) => reader.ask("idle", {})));
      await cache.close();
    },
    testTimeoutMs,
  );
});
