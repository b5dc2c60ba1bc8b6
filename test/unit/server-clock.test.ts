import { describe, expect, it } from "vitest";
import type { RedisClient } from "../../src/link/redis-client.js";
import { RedisLink } from "../../src/link/redis-link.js";
import { ServerClock } from "../../src/link/server-clock.js";
import { type Deferred, deferred } from "../support/deferred.js";
import { ManualRuntime, settle } from "../support/manual-runtime.js";

/** A client whose TIME the test answers. */
function setUp() {
  const runtime = new ManualRuntime();
  const asked: Deferred<unknown>[] = [];
  const client = {
    status: "ready",
    time: () => {
      const question = deferred<unknown>();
      asked.push(question);
      return question.promise;
    },
    once: () => undefined,
    off: () => undefined,
  } as unknown as RedisClient;
  const clock = new ServerClock(new RedisLink(client, 60_000, runtime), runtime);
  /** Takes the sample that is due, `takingMs` under way, from a server that is at `serverMs` meanwhile. */
  const sample = async (serverMs: number, takingMs: number) => {
    const before = asked.length;
    clock.sampleIfDue(runtime.monotonicMs());
    expect(asked.length).toBe(before + 1);
    await runtime.advance(takingMs);
    asked.at(-1)?.resolve([String(Math.floor(serverMs / 1000)), String((serverMs % 1000) * 1000)]);
    await settle();
  };
  return { runtime, clock, asked, sample };
}

describe("ServerClock", () => {
  it("is the host's wall clock until the first sample", () => {
    const { runtime, clock } = setUp();
    runtime.monotonicNowMs = 5_000; // Five seconds later by the clock that cannot be set.
    expect(clock.nowSeconds()).toBe(1_700_000_005);
  });

  it("is Redis' own clock from then on, however far the host's is off", async () => {
    const { clock, sample } = setUp();
    await sample(1_600_000_000_250, 0);
    expect(clock.nowSeconds()).toBe(1_600_000_000.25);
  });

  it("takes the moment half-way between question and answer for the moment of a first reply", async () => {
    const { clock, sample } = setUp();
    await sample(1_600_000_000_000, 40);
    expect(clock.nowSeconds()).toBe(1_600_000_000.02);
  });

  it("lets no slow sample spoil what a fast one has told", async () => {
    const { runtime, clock, sample } = setUp();
    await sample(1_600_000_000_000, 0);
    await runtime.advance(10_000);
    // Answered at once, but the reply was 900 ms on its way.
    await sample(1_600_000_010_000, 900);
    expect(clock.nowSeconds()).toBe(1_600_000_010.9);
  });

  it("moves as far as a slow sample demands when Redis' clock has been set", async () => {
    const { runtime, clock, sample } = setUp();
    await sample(1_600_000_000_000, 0);
    await runtime.advance(10_000);
    await sample(1_600_003_610_000, 900);
    expect(clock.nowSeconds()).toBeGreaterThanOrEqual(1_600_003_610);
    expect(clock.nowSeconds()).toBeLessThanOrEqual(1_600_003_610.9);
  });

  it("is carried on by the monotonic clock, which no setting of the host's clock moves", async () => {
    const { runtime, clock, sample } = setUp();
    await sample(1_600_000_000_000, 0);
    runtime.wallMs += 3_600_000;
    await runtime.advance(1_500);
    expect(clock.nowSeconds()).toBe(1_600_000_001.5);
  });

  it("asks every ten seconds, not before", async () => {
    const { runtime, clock, asked, sample } = setUp();
    await sample(1_600_000_000_000, 1);
    await runtime.advance(9_998);
    clock.sampleIfDue(runtime.monotonicMs());
    expect(asked).toHaveLength(1);
    await runtime.advance(1);
    clock.sampleIfDue(runtime.monotonicMs());
    expect(asked).toHaveLength(2);
  });

  it("asks once, not once for each command that finds a sample due", () => {
    const { runtime, clock, asked } = setUp();
    for (let command = 0; command < 3; command++) clock.sampleIfDue(runtime.monotonicMs());
    expect(asked).toHaveLength(1);
  });

  it("asks again a second after a slow sample", async () => {
    const { runtime, clock, asked, sample } = setUp();
    await sample(1_600_000_000_000, 0);
    await runtime.advance(10_000);
    await sample(1_600_000_010_000, 51);
    await runtime.advance(999);
    clock.sampleIfDue(runtime.monotonicMs());
    expect(asked).toHaveLength(2);
    await runtime.advance(1);
    clock.sampleIfDue(runtime.monotonicMs());
    expect(asked).toHaveLength(3);
  });

  it("asks once more at once when the first sample had to wait for its connection", async () => {
    const { clock, asked, sample } = setUp();
    await sample(1_600_000_000_800, 800);
    expect(asked).toHaveLength(2);
    expect(clock.isSettled).toBe(false);
    asked[1]?.resolve(["1600000001", "0"]);
    await clock.settle();
    expect(clock.nowSeconds()).toBe(1_600_000_001);
  });

  it("is settled when its first sample has arrived, and also when that has failed", async () => {
    const { clock, asked } = setUp();
    const settled = clock.settle();
    expect([asked.length, clock.isSettled]).toEqual([1, false]);
    asked[0]?.reject(new Error("NOPERM this user has no permissions to run the 'time' command"));
    await settled;
    expect(clock.isSettled).toBe(true);
  });

  it("asks at once when it is told to distrust what it has", async () => {
    const { clock, sample } = setUp();
    await sample(1_600_000_000_000, 0);
    clock.distrust();
    await sample(1_500_000_000_000, 0);
    expect(clock.nowSeconds()).toBe(1_500_000_000);
  });

  it("keeps the sample it has when TIME is denied or fails", async () => {
    const { runtime, clock, asked, sample } = setUp();
    await sample(1_600_000_000_000, 0);
    await runtime.advance(10_000);
    clock.sampleIfDue(runtime.monotonicMs());
    asked.at(-1)?.reject(new Error("NOPERM this user has no permissions to run the 'time' command"));
    await settle();
    expect(clock.nowSeconds()).toBe(1_600_000_010);
  });

  it.each(["QUEUED", ["QUEUED"], null, [null, null], ["1e999", "0"], ["1", Object.create(null)]])(
    "takes nothing from a reply that is no time: %j",
    async (reply) => {
      const { clock, asked } = setUp();
      const before = clock.nowSeconds();
      const settled = clock.settle();
      asked[0]?.resolve(reply);
      await settled;
      expect([clock.isSettled, clock.nowSeconds(), asked.length]).toEqual([true, before, 1]);
    },
  );
});
