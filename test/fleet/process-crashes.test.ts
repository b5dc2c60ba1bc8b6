import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { describeRedis } from "../support/describe-redis.js";
import { Fleet, until } from "../support/fleet.js";

const testTimeoutMs = 60_000;

// The two ways in which a dead holder is noticed: its lease ends, or a waiter's patience. The other one is out of reach.
const leaseEnds = { lockTimeout: 3, waitForLock: 600 };
const patienceEnds = { lockTimeout: 600, waitForLock: 3 };

describeRedis("a process that dies or stops during a rebuild", (redisUrl) => {
  let fleet: Fleet;
  let directory: string;
  beforeAll(() => {
    fleet = new Fleet(redisUrl);
    directory = mkdtempSync(join(tmpdir(), "cachefence-processes-"));
  });
  afterEach(() => fleet.checkAndClear());
  afterAll(async () => {
    await fleet.close();
    rmSync(directory, { recursive: true });
  });

  it.each([
    ["before its claim is answered", leaseEnds, { on: "claim", isSent: true }],
    ["before its claim is answered", patienceEnds, { on: "claim", isSent: true }],
    ["during its recompute", leaseEnds, undefined],
    ["during its recompute", patienceEnds, undefined],
    ["before its store", leaseEnds, { on: "store", isSent: false }],
    ["before its store", patienceEnds, { on: "store", isSent: false }],
  ] as const)(
    "costs one more rebuild in the whole fleet when it is killed %s (%o)",
    async (_, options, snag) => {
      const [victim, ...others] = await fleet.open(4, options);
      if (snag !== undefined) await victim!.ask("snag", { snag });
      void victim!.getOrSet("key");
      let recomputesOfVictim = 0;
      if (snag?.on !== "claim") {
        const recompute = await fleet.source.next();
        recomputesOfVictim = 1;
        if (snag !== undefined) recompute.succeed("never stored");
      }
      if (snag !== undefined) await victim!.snagged;
      const lock = await fleet.lockOf("key");
      expect(lock).not.toBeNull();
      const calls = others.map((service) => service.getOrSet("key", { kind: "gated" }, 100));
      await fleet.untilWaiting("key", 3);
      // Before it is dead: the next may begin as soon as it is.
      if (snag === undefined) await fleet.bury();
      await victim!.kill();

      const again = await fleet.source.next();
      expect(others).toContain(again.service);
      expect(await fleet.lockOf("key")).not.toBe(lock);
      again.succeed("second");
      expect((await Promise.all(calls)).flat()).toEqual(Array.from({ length: 300 }, () => ({ value: "second" })));
      expect(await fleet.counts()).toMatchObject({ starts: recomputesOfVictim + 1, most: 1 });
      expect(await fleet.stored("key")).toBe("second");
      expect(await fleet.lockOf("key")).toBeNull();
    },
    testTimeoutMs,
  );

  it(
    "is noticed by the end of its mailbox, long before its lease or anybody's patience ends, in its first rebuild too",
    async () => {
      const [victim, other] = await fleet.open(2, { lockTimeout: 600, waitForLock: 600 });
      void victim!.getOrSet("key");
      await fleet.source.next();
      const call = other!.getOrSet("key");
      await fleet.untilWaiting("key", 1);
      await fleet.bury();
      const killedMs = performance.now();
      await victim!.kill();
      const again = await fleet.source.next();
      // Half a second, and what a busy machine adds.
      expect(performance.now() - killedMs).toBeLessThan(10_000);
      again.succeed("second");
      expect(await call).toEqual([{ value: "second" }]);
      expect(await fleet.counts()).toMatchObject({ starts: 2, most: 1 });
    },
    testTimeoutMs,
  );

  it(
    "costs nothing when it is killed after its store and before the answer",
    async () => {
      const [victim, ...others] = await fleet.open(4, { lockTimeout: 600, waitForLock: 600 });
      await victim!.ask("snag", { snag: { on: "store", isSent: true } });
      void victim!.getOrSet("key");
      const recompute = await fleet.source.next();
      const calls = others.map((service) => service.getOrSet("key", { kind: "gated" }, 100));
      await fleet.untilWaiting("key", 3);
      recompute.succeed("first");
      await victim!.snagged;
      await victim!.kill();

      expect((await Promise.all(calls)).flat()).toEqual(Array.from({ length: 300 }, () => ({ value: "first" })));
      expect((await fleet.counts()).starts).toBe(1);
      expect(await fleet.lockOf("key")).toBeNull();
    },
    testTimeoutMs,
  );

  it(
    "costs one rebuild for each of two holders that are killed one after the other",
    async () => {
      const services = await fleet.open(4, leaseEnds);
      const calls = services.map((service) => service.getOrSet("key", { kind: "gated" }, 50));
      const first = await fleet.source.next();
      await fleet.untilWaiting("key", 3);
      await fleet.bury();
      await first.service.kill();
      const second = await fleet.source.next();
      await fleet.bury();
      await second.service.kill();
      (await fleet.source.next()).succeed("third");

      const survivors = calls.filter((_, index) => services[index]!.isRunning);
      expect((await Promise.all(survivors)).flat()).toEqual(Array.from({ length: 100 }, () => ({ value: "third" })));
      expect(await fleet.counts()).toMatchObject({ starts: 3, most: 1 });
    },
    testTimeoutMs,
  );

  it(
    "is refused its store when it was stopped past its lease and another process has rebuilt",
    async () => {
      const [stopped, other, reader] = await fleet.open(3, leaseEnds);
      const call = stopped!.getOrSet("key");
      const recompute = await fleet.source.next();
      stopped!.signal("SIGSTOP");
      const rebuilt = other!.getOrSet("key");
      const again = await fleet.source.next();
      expect(again.service).toBe(other);
      again.succeed("new");
      expect(await rebuilt).toEqual([{ value: "new" }]);
      recompute.succeed("old");
      stopped!.signal("SIGCONT");

      // Its own caller had called before either recompute began: both are an answer.
      expect([["old"], ["new"]]).toContainEqual((await call).map((result) => "value" in result && result.value));
      await until(async () => (await stopped!.ask("stats", {})).refusedStores === 1);
      expect(await reader!.getOrSet("key")).toEqual([{ value: "new" }]);
      expect(await fleet.lockOf("key")).toBeNull();
    },
    testTimeoutMs,
  );

  it(
    "does not take the lock from its successor when it was stopped past its lease and goes on meanwhile",
    async () => {
      const [stopped, other] = await fleet.open(2, leaseEnds);
      void stopped!.getOrSet("key");
      const recompute = await fleet.source.next();
      stopped!.signal("SIGSTOP");
      const rebuilt = other!.getOrSet("key");
      const again = await fleet.source.next();
      const lock = await fleet.lockOf("key");
      recompute.succeed("old");
      stopped!.signal("SIGCONT");
      await until(async () => (await stopped!.ask("stats", {})).refusedStores === 1);

      expect(await fleet.lockOf("key")).toBe(lock);
      expect(await fleet.stored("key")).toBeUndefined();
      again.succeed("new");
      expect(await rebuilt).toEqual([{ value: "new" }]);
      expect(await fleet.stored("key")).toBe("new");
    },
    testTimeoutMs,
  );

  it(
    "is refused its store when its event loop was blocked past its lease",
    async () => {
      const [blocked, other] = await fleet.open(2, leaseEnds);
      const call = blocked!.getOrSet("key");
      const recompute = await fleet.source.next();
      const unblock = join(directory, "unblock");
      const isUnblocked = blocked!.ask("block", { untilFile: unblock });
      recompute.succeed("old");
      const rebuilt = other!.getOrSet("key");
      const again = await fleet.source.next();
      expect(again.service).toBe(other);
      writeFileSync(unblock, "");
      await isUnblocked;
      await until(async () => (await blocked!.ask("stats", {})).refusedStores === 1);

      expect(await call).toEqual([{ value: "old" }]);
      expect(await fleet.stored("key")).toBeUndefined();
      again.succeed("new");
      expect(await rebuilt).toEqual([{ value: "new" }]);
      expect(await fleet.stored("key")).toBe("new");
    },
    testTimeoutMs,
  );

  it(
    "keeps nobody waiting: callers that joined its hung rebuild give it up, and one of them rebuilds",
    async () => {
      const [service] = await fleet.open(1, { lockTimeout: 600, waitForLock: 4 });
      void service!.getOrSet("key");
      const hung = await fleet.source.next();
      const joined = service!.getOrSet("key", { kind: "gated" }, 100);
      await until(async () => (await service!.ask("stats", {})).coalesced === 100);
      const again = await fleet.source.next();
      again.succeed("second");

      expect(await joined).toEqual(Array.from({ length: 100 }, () => ({ value: "second" })));
      expect((await fleet.counts()).starts).toBe(2);
      hung.succeed("first");
      await until(async () => (await service!.ask("stats", {})).refusedStores === 1);
      expect(await fleet.stored("key")).toBe("second");
    },
    testTimeoutMs,
  );
});
