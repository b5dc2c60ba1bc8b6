import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { describeRedis } from "../support/describe-redis.js";
import { Fleet, until } from "../support/fleet.js";
import { majors } from "../support/ioredis.js";
import type { Service } from "../support/service.js";

const testTimeoutMs = 60_000;
const patient = { lockTimeout: 600, waitForLock: 600 };

async function untilCoalesced(service: Service, count: number): Promise<void> {
  await until(async () => (await service.ask("stats", {})).coalesced === count);
}

async function untilRefused(service: Service, count: number): Promise<void> {
  await until(async () => (await service.ask("stats", {})).refusedStores === count);
}

describeRedis("a fence across processes", (redisUrl) => {
  let fleet: Fleet;
  beforeAll(() => {
    fleet = new Fleet(redisUrl);
  });
  afterEach(() => fleet.checkAndClear());
  afterAll(() => fleet.close());

  // The holder's ioredis and the invalidator's: the majors take turns, see Fleet.open.
  const pairs = majors.flatMap((_, holder) =>
    [
      ["another process", (holder + 1) % 2],
      ["its own process", holder],
    ].map(([whose, invalidator]) => [whose as string, majors[holder]!.name, holder, invalidator as number] as const),
  );

  describe.each(pairs)("raised by %s during a rebuild with ioredis %s", (_, __, holderIndex, fencerIndex) => {
    it(
      "invalidate: the store is refused, the caller that began the rebuild gets its value, those that joined ask again",
      async () => {
        const services = await fleet.open(3, patient);
        const [holder, fencer, third] = [services[holderIndex]!, services[fencerIndex]!, services[2]!];
        const before = holder.getOrSet("key");
        const first = await fleet.source.next();
        const joinedBefore = holder.getOrSet("key", { kind: "gated" }, 10);
        await untilCoalesced(holder, 10);
        await fencer.ask("invalidate", { keys: ["key"] });
        const joinedAfter = holder.getOrSet("key", { kind: "gated" }, 10);
        await untilCoalesced(holder, 20);
        const elsewhere = third.getOrSet("key");
        const second = await fleet.source.next();
        expect(second.service).toBe(third);
        first.succeed("old");
        await untilRefused(holder, 1);

        expect(await before).toEqual([{ value: "old" }]);
        expect(await fleet.stored("key")).toBeUndefined();
        second.succeed("new");
        expect(await elsewhere).toEqual([{ value: "new" }]);
        expect(await joinedAfter).toEqual(Array.from({ length: 10 }, () => ({ value: "new" })));
        // They joined after the recompute had begun, so they may not use what was not stored: they have asked again too.
        expect(await joinedBefore).toEqual(Array.from({ length: 10 }, () => ({ value: "new" })));
        expect(await fleet.stored("key")).toBe("new");
        expect((await fleet.counts()).starts).toBe(2);
        expect(await fleet.lockOf("key")).toBeNull();
      },
      testTimeoutMs,
    );

    it(
      "set: the store is refused, callers after it get the value that was set",
      async () => {
        const services = await fleet.open(3, patient);
        const [holder, fencer, third] = [services[holderIndex]!, services[fencerIndex]!, services[2]!];
        const before = holder.getOrSet("key");
        const first = await fleet.source.next();
        const waiting = third.getOrSet("key");
        await fleet.untilWaiting("key", 1);
        await fencer.ask("set", { key: "key", ttl: 60, value: "set" });

        expect(await waiting).toEqual([{ value: "set" }]);
        expect(await holder.getOrSet("key")).toEqual([{ value: "set" }]);
        first.succeed("old");
        expect(await before).toEqual([{ value: "old" }]);
        await untilRefused(holder, 1);
        expect(await fleet.stored("key")).toBe("set");
        expect((await fleet.counts()).starts).toBe(1);
      },
      testTimeoutMs,
    );
  });

  it(
    "wakes waiters of other processes, one of which rebuilds at once while the old rebuild goes on",
    async () => {
      const [holder, waiter, late] = await fleet.open(3, patient);
      void holder!.getOrSet("key");
      const first = await fleet.source.next();
      const waited = [waiter!.getOrSet("key"), late!.getOrSet("key")];
      await fleet.untilWaiting("key", 2);
      await holder!.ask("invalidate", { keys: ["key", "other", "more"] });
      const second = await fleet.source.next();
      expect(second.service).not.toBe(holder);
      second.succeed("new");

      expect(await Promise.all(waited)).toEqual([[{ value: "new" }], [{ value: "new" }]]);
      first.succeed("old");
      await untilRefused(holder!, 1);
      expect(await fleet.stored("key")).toBe("new");
    },
    testTimeoutMs,
  );

  it(
    "refuses both the holder and its taker when it is raised after a takeover",
    async () => {
      const [slow, taking, third] = await fleet.open(3, { lockTimeout: 600, waitForLock: 0.3 });
      void slow!.getOrSet("key");
      const first = await fleet.source.next();
      void taking!.getOrSet("key");
      const second = await fleet.source.next();
      await third!.ask("invalidate", { keys: ["key"] });
      first.succeed("old");
      second.succeed("old too");
      await untilRefused(slow!, 1);
      await untilRefused(taking!, 1);

      expect(await fleet.stored("key")).toBeUndefined();
      const fresh = third!.getOrSet("key");
      (await fleet.source.next()).succeed("new");
      expect(await fresh).toEqual([{ value: "new" }]);
    },
    testTimeoutMs,
  );
});
