import { expect, test } from "vitest";
import * as closed from "./closed-forms.js";
import { playCoordinatedCycle } from "./coordinated-cycle.js";
import type { Cycle } from "./cycle.js";
import { DEFAULT_LOAD } from "./default-load.js";
import { type KeyLoad, type Policy, refreshHazard } from "./key-load.js";
import { playRequestByRequest } from "./request-by-request.js";
import { Random } from "./random.js";
import { standardErrorsBetween, standardErrorsFrom } from "./sample-statistics.js";
import { playUncoordinatedCycle } from "./uncoordinated-cycle.js";
import { WaitLedger } from "./wait-ledger.js";

// Every tolerance is five standard errors of the sample: one false alarm in about two million checks, and the seed is fixed.
const TOLERANCE = 5;
const CYCLES = 20_000;

// The closed forms know no network and no end of the ttl.
const theory: KeyLoad = { ...DEFAULT_LOAD, deltaSeconds: 0.1, processes: 10, ttlSeconds: 3_600, roundTripSeconds: 0 };

function playCycles(seed: number, load: KeyLoad, policy: Policy): Cycle[] {
  const random = new Random(seed);
  const waits = new WaitLedger();
  return Array.from({ length: CYCLES }, () =>
    policy === "naive" || policy === "xfetchOnly"
      ? playUncoordinatedCycle(random, load, policy, waits)
      : playCoordinatedCycle(random, load, "cachefence", waits),
  );
}

for (const beta of [0.5, 1, 2]) {
  const busy = { ...theory, beta, ratePerSecond: 1e6 };
  const cool = { ...theory, beta, ratePerSecond: 15 / beta };

  test(`uncoordinated recomputes average e^(1 / beta) on a busy key (beta ${String(beta)})`, () => {
    const recomputes = playCycles(1, busy, "xfetchOnly").map((cycle) => cycle.recomputes);
    expect(standardErrorsFrom(recomputes, closed.uncoordinatedRecomputes(beta))).toBeLessThan(TOLERANCE);
  });

  test(`uncoordinated recomputes of a busy key are geometrically distributed (beta ${String(beta)})`, () => {
    const p = Math.exp(-1 / beta);
    const recomputes = playCycles(2, busy, "xfetchOnly").map((cycle) => cycle.recomputes);
    for (const count of [1, 2, 5]) {
      const isCount = recomputes.map((value) => Number(value === count));
      expect(standardErrorsFrom(isCount, p * (1 - p) ** (count - 1))).toBeLessThan(TOLERANCE);
    }
  });

  test(`uncoordinated recomputes follow the exact form on a cool key (beta ${String(beta)})`, () => {
    const recomputes = playCycles(3, cool, "xfetchOnly").map((cycle) => cycle.recomputes);
    const exact = closed.exactUncoordinatedRecomputes(refreshHazard(cool, "xfetchOnly"), cool.deltaSeconds);
    expect(standardErrorsFrom(recomputes, exact)).toBeLessThan(TOLERANCE);
    // The limit does not hold here, which shows that the check can tell them apart.
    expect(standardErrorsFrom(recomputes, closed.uncoordinatedRecomputes(beta))).toBeGreaterThan(TOLERANCE);
  });

  test(`no refresh starts before expiry with chance e^(-rate * beta * delta) (beta ${String(beta)})`, () => {
    const unrefreshed = playCycles(4, cool, "cachefence").map((cycle) => Number(cycle.isUnrefreshed));
    expect(standardErrorsFrom(unrefreshed, closed.hardMissChance(refreshHazard(cool, "cachefence")))).toBeLessThan(
      TOLERANCE,
    );
  });

  test(`a request finds the entry expired with the exact chance, which is higher (beta ${String(beta)})`, () => {
    const hardMisses = playCycles(5, cool, "cachefence").map((cycle) => Number(cycle.isHardMiss));
    const hazard = refreshHazard(cool, "cachefence");
    const exact = closed.exactFoundExpiredChance(hazard, cool.deltaSeconds);
    expect(standardErrorsFrom(hardMisses, exact)).toBeLessThan(TOLERANCE);
    expect(exact).toBeGreaterThan(closed.hardMissChance(hazard));
  });

  test(`the first refresh comes beta * delta * (ln(rate * beta * delta) + 0.5772) before expiry (beta ${String(beta)})`, () => {
    const early = playCycles(6, busy, "cachefence").map((cycle) => cycle.refreshedEarlySeconds);
    const mean = closed.meanFirstRefreshSeconds(refreshHazard(busy, "cachefence"));
    expect(standardErrorsFrom(early, mean)).toBeLessThan(TOLERANCE);
  });

  test(`the first refresh of a cool key follows the exact form (beta ${String(beta)})`, () => {
    const early = playCycles(7, cool, "cachefence").map((cycle) => cycle.refreshedEarlySeconds);
    const mean = closed.exactMeanFirstRefreshSeconds(refreshHazard(cool, "cachefence"));
    expect(standardErrorsFrom(early, mean)).toBeLessThan(TOLERANCE);
  });
}

test("the exact forms go over into the limits on a busy key", () => {
  const hazard = { ratePerSecond: 1e5, earlySeconds: 0.1 };
  expect(closed.exactUncoordinatedRecomputes(hazard, 0.1)).toBeCloseTo(Math.E, 4);
  expect(closed.exactMeanFirstRefreshSeconds(hazard)).toBeCloseTo(closed.meanFirstRefreshSeconds(hazard), 9);
  expect(closed.exactFoundExpiredChance(hazard, 0.1)).toBeLessThan(1e-12);
});

test("the exact forms go over into naive cache-aside without early refresh", () => {
  const hazard = { ratePerSecond: 200, earlySeconds: 0 };
  expect(closed.exactUncoordinatedRecomputes(hazard, 0.1)).toBeCloseTo(21, 6);
  expect(closed.exactFoundExpiredChance(hazard, 0.1)).toBeCloseTo(1, 6);
  expect(closed.hardMissChance(hazard)).toBe(1);
});

test("Ein agrees with its series and with ln(z) + 0.5772", () => {
  // 1 - 1/4 + 1/18 - 1/96 + 1/600 - ..
  expect(closed.entireExponentialIntegral(1)).toBeCloseTo(0.7965995992970531, 12);
  expect(closed.entireExponentialIntegral(39.99)).toBeCloseTo(Math.log(39.99) + 0.5772156649, 9);
});

test("a ttl that is not long leaves the hazard that lies within it", () => {
  const load = { ...theory, beta: 1, ratePerSecond: 15, ttlSeconds: 0.1 };
  const unrefreshed = playCycles(8, load, "cachefence").map((cycle) => Number(cycle.isUnrefreshed));
  expect(standardErrorsFrom(unrefreshed, Math.exp(-1.5 * (1 - Math.exp(-1))))).toBeLessThan(TOLERANCE);
});

// The oracle knows nothing of hazards: it draws every request and applies the XFetch rule to each.
for (const ratePerSecond of [15, 60, 100]) {
  test(`drawing only what matters gives what drawing every request gives (${String(ratePerSecond)} requests/s)`, () => {
    const load = { ...theory, ratePerSecond, ttlSeconds: 3 };
    const random = new Random(9);
    const oracle = Array.from({ length: 4_000 }, () => playRequestByRequest(random, load));
    const uncoordinated = playCycles(10, load, "xfetchOnly");
    const coordinated = playCycles(11, load, "cachefence");

    expectSameMean(
      oracle,
      (cycle) => cycle.uncoordinatedRecomputes,
      uncoordinated,
      (cycle) => cycle.recomputes,
    );
    expectSameMean(
      oracle,
      (cycle) => Number(cycle.isHardMiss),
      uncoordinated,
      (cycle) => Number(cycle.isHardMiss),
    );
    expectSameMean(
      oracle,
      (cycle) => Number(cycle.isHardMiss),
      coordinated,
      (cycle) => Number(cycle.isHardMiss),
    );
    for (const field of ["refreshedEarlySeconds", "lostClaims", "waitingProcesses", "waitingRequests"] as const) {
      expectSameMean(
        oracle,
        (cycle) => cycle[field],
        coordinated,
        (cycle) => cycle[field],
      );
    }
  });
}

function expectSameMean<One, Other>(
  ones: readonly One[],
  valueOfOne: (one: One) => number,
  others: readonly Other[],
  valueOfOther: (other: Other) => number,
): void {
  expect(standardErrorsBetween(ones.map(valueOfOne), others.map(valueOfOther))).toBeLessThan(TOLERANCE);
}
