import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { describeRedis } from "../support/describe-redis.js";
import { Fleet, until } from "../support/fleet.js";
import type { RecomputePlan, Result } from "../support/service-messages.js";

const testTimeoutMs = 60_000;

function times(count: number, result: Result): Result[] {
  return Array.from({ length: count }, () => result);
}

describeRedis("a fleet of processes", (redisUrl) => {
  let fleet: Fleet;
  beforeAll(() => {
    fleet = new Fleet(redisUrl);
  });
  afterEach(() => fleet.checkAndClear());
  afterAll(() => fleet.close());

  it(
    "recomputes a cold key once for 400 callers in 4 processes",
    async () => {
      const services = await fleet.open(4);
      const calls = services.map((service) => service.getOrSet("key", { kind: "gated" }, 100));
      const first = await fleet.source.next();
      await fleet.untilWaiting("key", 3);
      first.succeed({ id: 1 });

      expect((await Promise.all(calls)).flat()).toEqual(times(400, { value: { id: 1 } }));
      expect(await fleet.counts()).toEqual({ starts: 1, ends: 1, most: 1 });
      expect(await fleet.stored("key")).toEqual({ id: 1 });
      expect(await fleet.lockOf("key")).toBeNull();
    },
    testTimeoutMs,
  );

  it(
    "recomputes each of many cold keys once, whichever process comes first",
    async () => {
      const services = await fleet.open(4);
      const keys = Array.from({ length: 50 }, (_, index) => `key-${index}`);
      const returns = (key: string): RecomputePlan => ({ kind: "returns", value: key, afterMs: 5 });
      const calls = services.flatMap((service) => keys.map((key) => service.getOrSet(key, returns(key), 3)));

      expect((await Promise.all(calls)).flat()).toEqual(
        services.flatMap(() => keys.flatMap((key) => times(3, { value: key }))),
      );
      expect((await fleet.counts()).starts).toBe(50);
    },
    testTimeoutMs,
  );

  it(
    "does not recompute what another process has stored between its look and its claim",
    async () => {
      const [late, other] = await fleet.open(2);
      await late!.ask("withholdRead", {});
      const call = late!.getOrSet("key");
      await late!.snagged;
      const rebuilt = other!.getOrSet("key");
      (await fleet.source.next()).succeed("value");
      expect(await rebuilt).toEqual([{ value: "value" }]);
      await late!.ask("deliverRead", {});

      expect(await call).toEqual([{ value: "value" }]);
      expect((await fleet.counts()).starts).toBe(1);
      expect((await late!.ask("stats", {})).misses).toBe(1);
      await late!.ask("idle", {});
      await until(async () => (await fleet.lockOf("key")) === null);
    },
    testTimeoutMs,
  );

  it(
    "never has two attempts at once on a source that is down, and at most one per process",
    async () => {
      const services = await fleet.open(4);
      const down: RecomputePlan = { kind: "throws", message: "the source is down", afterMs: 30 };
      const results = await Promise.all(services.map((service) => service.getOrSet("key", down, 100)));

      expect(new Set(results.flat().map((result) => JSON.stringify(result)))).toEqual(
        new Set([
          JSON.stringify({
            error: {
              name: "RecomputeError",
              message: 'Recompute of "key" failed: the source is down',
              cause: "the source is down",
            },
          }),
        ]),
      );
      const { starts, most } = await fleet.counts();
      expect(most).toBe(1);
      expect(starts).toBeLessThanOrEqual(4);
      expect(
        (await Promise.all(services.map((service) => service.ask("stats", {})))).map((one) => one.rebuilds),
      ).toEqual(expect.not.arrayContaining([2, 3, 4]));
      expect(await fleet.lockOf("key")).toBeNull();
    },
    testTimeoutMs,
  );

  it(
    "lets the next process try as soon as a recompute has failed",
    async () => {
      const [failing, waiting] = await fleet.open(2, { lockTimeout: 600, waitForLock: 600 });
      const failed = failing!.getOrSet("key");
      const attempt = await fleet.source.next();
      const waited = waiting!.getOrSet("key");
      await fleet.untilWaiting("key", 1);
      attempt.fail("once");
      const retry = await fleet.source.next();
      retry.succeed("second");

      expect(await failed).toMatchObject([{ error: { name: "RecomputeError", cause: "once" } }]);
      expect(await waited).toEqual([{ value: "second" }]);
    },
    testTimeoutMs,
  );

  it(
    "keeps the lock of a slow holder far past lockTimeout",
    async () => {
      const [slow, ...waiting] = await fleet.open(3, { lockTimeout: 3, waitForLock: 600 });
      const rebuilt = slow!.getOrSet("key");
      const recompute = await fleet.source.next();
      // Where its mailbox was late, the lock says so when it is live, and is the same from then on.
      await until(async () => /:L\w+-\w+$/.test((await fleet.lockOf("key")) ?? ""));
      const lock = await fleet.lockOf("key");
      const waited = waiting.map((service) => service.getOrSet("key"));
      // The lease would be over twice; that more time passes on a busy machine changes nothing.
      await new Promise((resolve) => setTimeout(resolve, 7_000));

      expect(await fleet.lockOf("key")).toBe(lock);
      recompute.succeed("slow");
      expect(await Promise.all([rebuilt, ...waited])).toEqual(times(3, { value: "slow" }).map((result) => [result]));
      expect(await fleet.counts()).toEqual({ starts: 1, ends: 1, most: 1 });
    },
    testTimeoutMs,
  );

  it(
    "stores what the taker has when it is first, and gives it to the callers of the slow holder too",
    async () => {
      const [slow, taking] = await fleet.open(2, { lockTimeout: 1.5, waitForLock: 0.3 });
      const held = slow!.getOrSet("key");
      const first = await fleet.source.next();
      const taken = taking!.getOrSet("key");
      const second = await fleet.source.next();
      expect(second.service).toBe(taking);
      second.succeed("taker's");

      expect(await taken).toEqual([{ value: "taker's" }]);
      expect(await held).toEqual([{ value: "taker's" }]);
      first.succeed("holder's");
      await until(async () => (await slow!.ask("stats", {})).refusedStores === 1);
      expect(await fleet.stored("key")).toBe("taker's");
      expect(await fleet.lockOf("key")).toBeNull();
      expect((await taking!.ask("stats", {})).takeovers).toBe(1);
    },
    testTimeoutMs,
  );

  it(
    "stores what the slow holder has when it is first, and gives it to the callers of the taker too",
    async () => {
      const [slow, taking] = await fleet.open(2, { lockTimeout: 600, waitForLock: 0.3 });
      const held = slow!.getOrSet("key");
      const first = await fleet.source.next();
      const taken = taking!.getOrSet("key");
      const second = await fleet.source.next();
      first.succeed("holder's");

      expect(await held).toEqual([{ value: "holder's" }]);
      expect(await taken).toEqual([{ value: "holder's" }]);
      second.succeed("taker's");
      await until(async () => (await taking!.ask("stats", {})).refusedStores === 1);
      expect(await fleet.stored("key")).toBe("holder's");
      expect(await fleet.lockOf("key")).toBeNull();
    },
    testTimeoutMs,
  );

  it(
    "leaves the taker's lock alone when the slow holder fails",
    async () => {
      const [slow, taking] = await fleet.open(2, { lockTimeout: 600, waitForLock: 0.3 });
      const held = slow!.getOrSet("key");
      const first = await fleet.source.next();
      const taken = taking!.getOrSet("key");
      const second = await fleet.source.next();
      const lock = await fleet.lockOf("key");
      first.fail("down");

      expect(await held).toMatchObject([{ error: { name: "RecomputeError" } }]);
      await slow!.ask("idle", {});
      expect(await fleet.lockOf("key")).toBe(lock);
      second.succeed("taker's");
      expect(await taken).toEqual([{ value: "taker's" }]);
      expect(await fleet.stored("key")).toBe("taker's");
    },
    testTimeoutMs,
  );

  it(
    "fills the cache although every recompute takes longer than waitForLock",
    async () => {
      const services = await fleet.open(3, { waitForLock: 3 });
      const returns: RecomputePlan = { kind: "returns", value: "slow", afterMs: 4_500 };
      const results = await Promise.all(services.map((service) => service.getOrSet("key", returns, 20)));
      const { starts } = await fleet.counts();

      expect(results.flat()).toEqual(times(60, { value: "slow" }));
      expect(starts).toBeLessThanOrEqual(3);
      expect(await fleet.stored("key")).toBe("slow");
      expect(await services[0]!.getOrSet("key", returns)).toEqual([{ value: "slow" }]);
      expect((await services[0]!.ask("stats", {})).hits).toBe(1);
      await Promise.all(services.map((service) => service.ask("idle", {})));
    },
    testTimeoutMs,
  );
});
