import fc from "fast-check";
import { expect, test } from "vitest";
import { cumulativeHazard, hazardBetween, momentOfHazard } from "./refresh-hazard.js";

const hazards = fc.record({
  ratePerSecond: fc.double({ min: 0.01, max: 1e7, noNaN: true }),
  earlySeconds: fc.oneof(fc.constant(0), fc.double({ min: 0.0005, max: 120, noNaN: true })),
});

test("the moment of a cumulative hazard has that cumulative hazard", () => {
  fc.assert(
    fc.property(hazards, fc.double({ min: 1e-6, max: 1e9, noNaN: true }), (hazard, reached) => {
      expect(cumulativeHazard(hazard, momentOfHazard(hazard, reached)) / reached).toBeCloseTo(1, 6);
    }),
    { seed: 1 },
  );
});

test("the hazard is the rate times the chance of a request to refresh", () => {
  const hazard = { ratePerSecond: 500, earlySeconds: 0.2 };
  for (const atSeconds of [-1.5, -0.4, -0.01]) {
    const step = 1e-6;
    const slope = hazardBetween(hazard, atSeconds - step, atSeconds + step) / (2 * step);
    expect(slope).toBeCloseTo(500 * Math.exp(atSeconds / 0.2), 3);
  }
  expect(hazardBetween(hazard, 1, 3)).toBeCloseTo(1_000, 9);
  expect(hazardBetween(hazard, 3, 1)).toBe(0);
});

test("without early refresh nothing refreshes before expiry", () => {
  const hazard = { ratePerSecond: 500, earlySeconds: 0 };
  expect(hazardBetween(hazard, -100, 0)).toBe(0);
  expect(momentOfHazard(hazard, 1)).toBeCloseTo(0.002, 12);
});
