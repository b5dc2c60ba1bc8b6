import { expect, test } from "vitest";
import { samplePoisson } from "./poisson.js";
import { Random } from "./random.js";
import { meanOf, varianceOf } from "./sample-statistics.js";

test("the same seed gives the same numbers, another seed others", () => {
  const draw = (seed: number) => {
    const random = new Random(seed);
    return Array.from({ length: 5 }, () => random.uniform());
  };
  expect(draw(7)).toEqual(draw(7));
  expect(draw(7)).not.toEqual(draw(8));
});

test("uniform numbers fill (0, 1] evenly", () => {
  const random = new Random(1);
  const draws = 100_000;
  const bins = new Float64Array(100);
  for (let draw = 0; draw < draws; draw++) {
    const value = random.uniform();
    if (!(value > 0 && value <= 1)) throw new Error(`outside (0, 1]: ${String(value)}`);
    const bin = Math.ceil(value * 100) - 1;
    bins[bin] = (bins[bin] ?? 0) + 1;
  }
  const expected = draws / bins.length;
  const chiSquare = bins.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  // 99 degrees of freedom: mean 99, deviation 14; both tails at five deviations.
  expect(Math.abs(chiSquare - 99)).toBeLessThan(5 * Math.sqrt(2 * 99));
});

test.each([0, 0.3, 5, 9.9, 10.1, 80, 5_000, 6e8])("Poisson counts of mean %s have that mean and variance", (mean) => {
  const random = new Random(2);
  const counts = Array.from({ length: 40_000 }, () => samplePoisson(random, mean));
  const n = counts.length;
  // The mean's variance is mean / n, the sample variance's (mean + 2 mean^2) / n.
  expect(Math.abs(meanOf(counts) - mean)).toBeLessThanOrEqual(5 * Math.sqrt(mean / n));
  expect(Math.abs(varianceOf(counts) - mean)).toBeLessThanOrEqual(5 * Math.sqrt((mean + 2 * mean * mean) / n));
});

test.each([4, 12])("Poisson counts of mean %s have the Poisson distribution", (mean) => {
  const random = new Random(3);
  const draws = 100_000;
  const counts = new Float64Array(60);
  for (let draw = 0; draw < draws; draw++) {
    const count = samplePoisson(random, mean);
    counts[count] = (counts[count] ?? 0) + 1;
  }
  let probability = Math.exp(-mean);
  let chiSquare = 0;
  let bins = 0;
  for (let count = 0; count < counts.length; count++) {
    const expected = draws * probability;
    if (expected >= 20) {
      chiSquare += ((counts[count] ?? 0) - expected) ** 2 / expected;
      bins++;
    }
    probability *= mean / (count + 1);
  }
  expect(chiSquare).toBeLessThan(bins + 5 * Math.sqrt(2 * bins));
});
