import type { Random } from "./random.js";

/** A Poisson-distributed count: exact at every mean, in constant time at large ones. */
export function samplePoisson(random: Random, mean: number): number {
  return mean < 10 ? sampleSmall(random, mean) : sampleLarge(random, mean);
}

function sampleSmall(random: Random, mean: number): number {
  let count = 0;
  for (let reached = random.exponential(); reached < mean; reached += random.exponential()) count++;
  return count;
}

// Hörmann, "The transformed rejection method for generating Poisson random variables" (1993), algorithm PTRS.
function sampleLarge(random: Random, mean: number): number {
  const b = 0.931 + 2.53 * Math.sqrt(mean);
  const a = -0.059 + 0.02483 * b;
  const inverseAlpha = 1.1239 + 1.1328 / (b - 3.4);
  const certain = 0.9277 - 3.6224 / (b - 2);
  for (;;) {
    const u = random.uniform() - 0.5;
    const v = random.uniform();
    const distance = 0.5 - Math.abs(u);
    const count = Math.floor(((2 * a) / distance + b) * u + mean + 0.43);
    if (distance >= 0.07 && v <= certain) return count;
    if (count < 0 || (distance < 0.013 && v > distance)) continue;
    const logRatio = Math.log((v * inverseAlpha) / (a / (distance * distance) + b));
    if (logRatio <= count * Math.log(mean) - mean - logFactorial(count)) return count;
  }
}

function logFactorial(count: number): number {
  if (count < 10) {
    let product = 1;
    for (let factor = 2; factor <= count; factor++) product *= factor;
    return Math.log(product);
  }
  const inverse = 1 / count;
  // Stirling's series; its error from 10 on is below 1e-10.
  const series = inverse * (1 / 12 - inverse * inverse * (1 / 360 - (inverse * inverse) / 1260));
  return (count + 0.5) * Math.log(count) - count + 0.5 * Math.log(2 * Math.PI) + series;
}
