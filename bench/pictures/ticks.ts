/** Round numbers from 0 to at least `most`, about `count` of them. */
export function linearTicks(most: number, count: number): number[] {
  const rough = Math.max(most, Number.MIN_VALUE) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)!;
  return Array.from({ length: Math.max(Math.ceil(most / step), 1) + 1 }, (_, i) => i * step);
}

const MANTISSAS = [1, 1.5, 2, 3, 4, 5, 7];

/** Round numbers for a logarithmic axis: from the last that is no more than `least` to the first that is no less than `most`. */
export function logTicks(least: number, most: number): number[] {
  const candidates: number[] = [];
  for (let power = 10 ** Math.floor(Math.log10(least)); power <= most * 10; power *= 10) {
    candidates.push(...MANTISSAS.map((mantissa) => mantissa * power));
  }
  const first = candidates.findLastIndex((tick) => tick <= least);
  const last = candidates.findIndex((tick) => tick >= most);
  return candidates.slice(first, last + 1);
}

/** 1, 10, 100 and so on, to at least `most`. */
export function powersOfTen(most: number): number[] {
  return Array.from({ length: Math.ceil(Math.log10(most)) + 1 }, (_, power) => 10 ** power);
}
