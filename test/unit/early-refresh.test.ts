import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { shouldRefreshEarly } from "../../src/call/early-refresh.js";
import { systemRuntime } from "../../src/runtime.js";

const SEED = { seed: 20150713, numRuns: 1_000 };

const draw = fc.double({ min: Number.MIN_VALUE, max: 1, noNaN: true });
const seconds = fc.double({ min: 0, max: 1e6, noNaN: true });
const beta = fc.double({ min: 0, max: 1e6, noNaN: true });
const moment = fc.double({ min: 1e9, max: 4e9, noNaN: true });

/** A fixed sequence, uniform on (0, 1] (mulberry32). */
function draws(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 1) / 2 ** 32;
  };
}

/** For this draw. */
function isDue(
  entry: Parameters<typeof shouldRefreshEarly>[0],
  eagerness: number,
  nowSeconds: number,
  u: number,
): boolean {
  return shouldRefreshEarly(entry, eagerness, nowSeconds, { random: () => u });
}

describe("shouldRefreshEarly", () => {
  it("refreshes whatever has expired, at either end of the draw", () => {
    fc.assert(
      fc.property(moment, seconds, seconds, beta, draw, (expiry, late, delta, eagerness, u) => {
        const entry = { deltaSeconds: delta, expirySeconds: expiry };
        expect(isDue(entry, eagerness, expiry + late, u)).toBe(true);
      }),
      SEED,
    );
  });

  it("refreshes what has expired also where delta * beta is too large to count with", () => {
    expect(isDue({ deltaSeconds: 10, expirySeconds: 100 }, 1e308, 101, 1)).toBe(true);
  });

  it("refreshes nothing before its time with beta 0, even at the smallest draw", () => {
    const before = fc.double({ min: 1e-3, max: 1e6, noNaN: true });
    fc.assert(
      fc.property(moment, before, seconds, draw, (expiry, early, delta, u) => {
        const entry = { deltaSeconds: delta, expirySeconds: expiry };
        expect(isDue(entry, 0, expiry - early, u)).toBe(false);
      }),
      SEED,
    );
  });

  it("refreshes nothing before its time at a draw of 1, whatever delta and beta", () => {
    const before = fc.double({ min: 1e-3, max: 1e6, noNaN: true });
    fc.assert(
      fc.property(moment, before, seconds, beta, (expiry, early, delta, eagerness) => {
        const entry = { deltaSeconds: delta, expirySeconds: expiry };
        expect(isDue(entry, eagerness, expiry - early, 1)).toBe(false);
      }),
      SEED,
    );
  });

  it("reaches back 708 deltas at the smallest normal draw, and is finite there", () => {
    const entry = { deltaSeconds: 1, expirySeconds: 10_000 };
    const smallest = 2 ** -1022;
    expect(isDue(entry, 1, 10_000 - 708, smallest)).toBe(true);
    expect(isDue(entry, 1, 10_000 - 709, smallest)).toBe(false);
  });

  it("is the paper's rule, whether it draws or not, and draws only where a draw could say yes", () => {
    let drawn = 0;
    let calls = 0;
    const scale = fc.double({ min: 0, max: 1500, noNaN: true });
    fc.assert(
      fc.property(
        moment,
        scale,
        fc.constantFrom(0, 1e-3, 1, 50),
        fc.constantFrom(0.5, 1, 3),
        draw,
        (expiry, reach, delta, eagerness, u) => {
          const now = expiry - reach * delta * eagerness - 1e-3;
          calls++;
          const random = () => {
            drawn++;
            return u;
          };
          const answer = shouldRefreshEarly({ deltaSeconds: delta, expirySeconds: expiry }, eagerness, now, { random });
          expect(answer).toBe(now - delta * eagerness * Math.log(u) >= expiry);
        },
      ),
      SEED,
    );
    expect(drawn).toBeGreaterThan(calls * 0.2);
    expect(drawn).toBeLessThan(calls * 0.8);
  });

  it("stays willing when delta or beta grows, and when time passes", () => {
    fc.assert(
      fc.property(moment, seconds, seconds, beta, seconds, draw, (expiry, early, delta, eagerness, more, u) => {
        const now = expiry - early;
        if (!isDue({ deltaSeconds: delta, expirySeconds: expiry }, eagerness, now, u)) return;
        expect(isDue({ deltaSeconds: delta + more, expirySeconds: expiry }, eagerness, now, u)).toBe(true);
        expect(isDue({ deltaSeconds: delta, expirySeconds: expiry }, eagerness + more, now, u)).toBe(true);
        expect(isDue({ deltaSeconds: delta, expirySeconds: expiry }, eagerness, now + more, u)).toBe(true);
      }),
      SEED,
    );
  });

  it.each([
    { beta: 0.5, deltas: 1, share: Math.exp(-2) },
    { beta: 1, deltas: 1, share: Math.exp(-1) },
    { beta: 1, deltas: 2, share: Math.exp(-2) },
    { beta: 2, deltas: 1, share: Math.exp(-0.5) },
  ])("refreshes $share of the reads at $deltas delta before expiry with beta $beta", ({ beta, deltas, share }) => {
    const random = draws(1);
    const reads = 200_000;
    const entry = { deltaSeconds: 0.25, expirySeconds: 1_000 };
    let refreshes = 0;
    for (let read = 0; read < reads; read++) {
      if (isDue(entry, beta, 1_000 - deltas * 0.25, random())) refreshes++;
    }
    // Five standard deviations of a fixed sequence: this fails by a wrong rule, not by chance.
    expect(Math.abs(refreshes / reads - share)).toBeLessThan(5 * Math.sqrt((share * (1 - share)) / reads));
  });

  // The paper counts the readers that decide to refresh before the first one's new value is there.
  it.each([0.5, 1, 2])("lets e^(1/beta) uncoordinated readers of one cycle refresh on average, beta %d", (beta) => {
    const random = draws(7);
    const entry = { deltaSeconds: 1, expirySeconds: 40 };
    const readsPerSecond = 400;
    const cycles = 3_000;
    let refreshes = 0;
    for (let cycle = 0; cycle < cycles; cycle++) {
      let firstSeconds = Infinity;
      // By the old value's expiry, and with a recompute of one delta, nobody else can be left to decide.
      for (let read = 0; ; read++) {
        const now = 20 + read / readsPerSecond;
        if (now >= firstSeconds + entry.deltaSeconds || now >= entry.expirySeconds) break;
        if (!isDue(entry, beta, now, random())) continue;
        refreshes++;
        if (firstSeconds === Infinity) firstSeconds = now;
      }
    }
    expect(refreshes / cycles / Math.exp(1 / beta)).toBeCloseTo(1, 1);
  });

  it("is drawn from (0, 1]: never 0, whose logarithm is infinite", () => {
    const values = Array.from({ length: 10_000 }, () => systemRuntime.random());
    expect(values.every((u) => u > 0 && u <= 1)).toBe(true);
  });
});
