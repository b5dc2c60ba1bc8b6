export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export function varianceOf(values: readonly number[]): number {
  const mean = meanOf(values);
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
}

/** How many standard errors the mean of a sample lies from where it should. */
export function standardErrorsFrom(values: readonly number[], expected: number): number {
  return Math.abs(meanOf(values) - expected) / Math.sqrt(varianceOf(values) / values.length);
}

/** How many standard errors the means of two independent samples lie apart. */
export function standardErrorsBetween(ones: readonly number[], others: readonly number[]): number {
  const variance = varianceOf(ones) / ones.length + varianceOf(others) / others.length;
  return Math.abs(meanOf(ones) - meanOf(others)) / Math.sqrt(variance);
}
