import fc from "fast-check";
import { expect, test } from "vitest";
import * as cost from "./cost-model.js";
import { DEFAULT_LOAD } from "./default-load.js";
import { EventQueue } from "./event-queue.js";
import { sampleFirstArrivals } from "./first-arrivals.js";
import { type BurstSettings, playBurst } from "./fleet-burst.js";
import { runKey } from "./key-run.js";
import { Random } from "./random.js";
import { standardErrorsFrom } from "./sample-statistics.js";
import { runCopies } from "./copies-run.js";
import { countTakeovers } from "./takeovers.js";
import { WaitLedger } from "./wait-ledger.js";
import { zipfShares } from "./zipf.js";

test("the event queue hands out events in order of time, then of addition", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 })), (moments) => {
      const queue = new EventQueue<number>();
      moments.forEach((moment, order) => queue.add(moment, order));
      const inOrder = moments.map((moment, order) => ({ moment, order }));
      inOrder.sort((one, other) => one.moment - other.moment || one.order - other.order);
      expect(inOrder.map(() => queue.next()?.event)).toEqual(inOrder.map(({ order }) => order));
      expect(queue.next()).toBeUndefined();
    }),
    { seed: 1 },
  );
});

test.each([0.001, 0.1, 1, 50])("as many processes ask in a window as should (%s requests each)", (expected) => {
  const random = new Random(1);
  const counts = Array.from({ length: 5_000 }, () => sampleFirstArrivals(random, 40, expected, 1).length);
  const mean = 40 * -Math.expm1(-expected);
  if (expected > 20) expect(new Set(counts)).toEqual(new Set([40]));
  else expect(standardErrorsFrom(counts, mean)).toBeLessThan(5);
});

test("the ledger's quantiles are those of evenly spread waits", () => {
  const waits = new WaitLedger();
  waits.addWindow(0, 2, 300);
  waits.addRequests(5, 100);
  expect(waits.requests).toBe(400);
  expect(waits.meanSeconds()).toBeCloseTo(2, 9);
  expect(waits.quantileSeconds(0.375)).toBeCloseTo(1, 6);
  expect(waits.quantileSeconds(0.99)).toBeCloseTo(5, 6);
});

test("Zipf shares add up to one and fall as the inverse of the rank", () => {
  const shares = zipfShares(1_000, 1);
  expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
  expect((shares[0] ?? 0) / (shares[9] ?? 1)).toBeCloseTo(10, 9);
});

test("nobody takes over while the holder is within the waiters' patience", () => {
  expect(countTakeovers([0, 0.1, 3], 5, 5)).toBe(0);
});

test("one waiter takes over from a holder that is slow, and the others wait for it", () => {
  expect(countTakeovers([0.1, 0.2, 0.3, 4], 9, 5)).toBe(1);
});

test("a recompute of more than twice the patience is repeated by every process that waits", () => {
  expect(countTakeovers([0.1, 0.2, 0.3, 0.4], 12, 5)).toBe(4);
});

test("a cold rebuild costs one holder and every other process that asks", () => {
  const load = { ...DEFAULT_LOAD, processes: 50, ratePerSecond: 50_000, deltaSeconds: 0.3 };
  const { commands, messages, recomputes } = runKey(new Random(1), load, "lockOnly", 100);
  expect(recomputes).toBe(1);
  expect(messages).toBe(49);
  expect(commands).toBe(cost.HOLDER_COMMANDS + 49 * cost.WAITING_PROCESS_COMMANDS);
});

test("an early refresh costs at most e^(1 / beta) - 1 lost claims, however large the fleet", () => {
  for (const processes of [2, 100, 10_000]) {
    const load = { ...DEFAULT_LOAD, processes, ratePerSecond: 1e6, deltaSeconds: 0.5, roundTripSeconds: 0 };
    const { lostClaims, messages, hardMissShare } = runKey(new Random(2), load, "cachefence", 10_000);
    const expected = ((Math.E - 1) * (processes - 1)) / processes;
    // Geometric counts: their deviation is below e.
    expect(Math.abs(lostClaims - expected)).toBeLessThan((5 * Math.E) / Math.sqrt(10_000));
    expect({ messages, hardMissShare }).toEqual({ messages: 0, hardMissShare: 0 });
  }
});

test("staleFor leaves no hard miss on a key that is asked for within it", () => {
  const load = { ...DEFAULT_LOAD, ratePerSecond: 5, staleForSeconds: 60, earlyRefresh: "background" as const };
  expect(runKey(new Random(3), { ...load, staleForSeconds: 0 }, "cachefence", 2_000).hardMissShare).toBeGreaterThan(
    0.5,
  );
  expect(runKey(new Random(3), load, "cachefence", 2_000)).toMatchObject({ hardMissShare: 0, waits: 0 });
});

const burst: BurstSettings = {
  ...{ processes: 200, deltaSeconds: 0.2, spreadSeconds: 0.02, roundTripSeconds: 0.0005, wakeUp: "push" },
};

test("a burst sends what the cost model says", () => {
  const { commands, messages } = playBurst(new Random(1), burst);
  expect(commands).toBe(cost.HOLDER_COMMANDS + 199 * cost.WAITING_PROCESS_COMMANDS);
  expect(messages).toBe(199);
});

test("one process alone waits for nobody", () => {
  const alone = playBurst(new Random(1), { ...burst, processes: 1 });
  expect(alone).toMatchObject({ commands: cost.HOLDER_COMMANDS, messages: 0, wakeUpP99Seconds: 0 });
});

test("waiters that only poll get no messages and send more commands on a long recompute", () => {
  const pushed = playBurst(new Random(1), { ...burst, deltaSeconds: 5 });
  const polled = playBurst(new Random(1), { ...burst, deltaSeconds: 5, wakeUp: "poll" });
  expect(polled.messages).toBe(0);
  expect(polled.commands).toBeGreaterThan(5 * pushed.commands);
});

const copies = { processes: 20, ratePerSecond: 20_000, leaseSeconds: 1, fencesPerSecond: 0, deltaSeconds: 0.05 };

test("a hot key with copies costs each process one command for each lease", () => {
  const { commandsPerSecond, messagesPerSecond } = runCopies(new Random(1), copies, 500);
  expect(commandsPerSecond).toBeGreaterThan(19.9);
  expect(commandsPerSecond).toBeLessThan(20.1);
  expect(messagesPerSecond).toBe(0);
});

test("a fence asks each process that holds a copy, and its key is read from Redis for a lease or two", () => {
  const fenced = runCopies(new Random(2), { ...copies, fencesPerSecond: 0.01 }, 1_000);
  expect(fenced.holders).toBeCloseTo(20, 9);
  const ofFence = (fenced.commandsPerSecond - 20) * 100;
  const plainReads = 20 * 1.5 * 787;
  expect(ofFence).toBeGreaterThan(0.9 * plainReads);
  expect(ofFence).toBeLessThan(1.1 * plainReads);
});
