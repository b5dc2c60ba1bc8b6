/** A range of numbers: `min` is in it, `above` is not, `max` is. */
export interface Range {
  readonly min?: number;
  readonly above?: number;
  readonly max?: number;
}

/** A number of seconds. */
export function secondsOf(name: string, value: unknown, range: Range): number {
  return isWithin(value, range) ? value : refuse(name, "a number of seconds", value, range);
}

/** A number without a unit. */
export function factorOf(name: string, value: unknown, range: Range): number {
  return isWithin(value, range) ? value : refuse(name, "a finite number", value, range);
}

function isWithin(value: unknown, { min = 0, above = -1, max = Infinity }: Range): value is number {
  return typeof value === "number" && value >= min && value > above && value <= max && value !== Infinity;
}

// Put into words only here: every hit has its ttl checked.
function refuse(name: string, what: string, value: unknown, { min = 0, above, max }: Range): never {
  const lowest = above === undefined ? `>= ${String(min)}` : `> ${String(above)}`;
  const expectation = `${what} ${lowest}${max === undefined ? "" : ` and <= ${String(max)}`}`;
  if (typeof value !== "number") throw typeError(name, expectation, value);
  throw new RangeError(expected(name, expectation, value));
}

export function oneOf<T extends string>(name: string, value: unknown, allowed: readonly T[]): T | undefined {
  if (value === undefined) return undefined;
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) throw typeError(name, allowed.map((one) => `"${one}"`).join(" or "), value);
  return found;
}

export function requireFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== "function") throw typeError(name, "a function", value);
}

export function requireObject(name: string, value: unknown): asserts value is object {
  if (typeof value !== "object" || value === null) throw typeError(name, "an object", value);
}

/** Text that has a form of its own as UTF-8: of two strings with a lone surrogate each, one could read the other's entry. */
export function requireWellFormed(name: string, value: unknown): asserts value is string {
  if (typeof value !== "string") throw typeError(name, "a string", value);
  if (!(value as WellFormedString).isWellFormed()) {
    throw typeError(name, "a well-formed string (no lone surrogates)", value);
  }
}

// In lib es2024; every runtime that is supported has it.
type WellFormedString = string & { isWellFormed(): boolean };

/** The same, and not empty. */
export function requireName(name: string, value: unknown): asserts value is string {
  if (typeof value !== "string" || value === "") throw typeError(name, "a non-empty string", value);
  requireWellFormed(name, value);
}

/**
 * Refuses what is no option here. A misspelt option would otherwise be the default in silence.
 *
 * @param owner - whose options these are, as in `known`
 * @param known - the names of the options of each owner
 */
export function requireKnownOptions<O extends string>(
  options: object,
  owner: O,
  known: Readonly<Record<O, ReadonlySet<string>>>,
): void {
  const ours = known[owner];
  for (const name of Object.keys(options)) {
    if (ours.has(name)) continue;
    const owners = (Object.keys(known) as O[]).filter((other) => known[other].has(name));
    if (owners.length > 0) {
      const others = owners.map((other) => shownOwner(other)).join(", ");
      throw new TypeError(`Option \`${name}\` is no option of ${shownOwner(owner)}, but of ${others}`);
    }
    const nearest = nearestTo(name, [...ours]);
    const hint =
      nearest === undefined
        ? `known are ${[...ours].map((one) => `\`${one}\``).join(", ")}`
        : `did you mean \`${nearest}\`?`;
    throw new TypeError(`Unknown option \`${name}\`: ${hint}`);
  }
}

function shownOwner(owner: string): string {
  return owner === "constructor" ? "the constructor" : `\`${owner}\``;
}

/** The candidate that is meant by a misspelt name, if any is near enough. */
function nearestTo(name: string, candidates: readonly string[]): string | undefined {
  const lower = name.toLowerCase();
  const ranked = candidates
    .map((candidate) => ({ candidate, distance: distanceOf(lower, candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  const [best] = ranked;
  if (best === undefined) return undefined;
  if (best.distance <= Math.max(1, Math.floor(name.length / 3))) return best.candidate;
  return candidates.find((candidate) => lower.length > 2 && candidate.toLowerCase().includes(lower));
}

/** Levenshtein's: how many letters must be put in, left out or replaced. */
function distanceOf(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const line = [row];
    for (let column = 1; column <= b.length; column++) {
      const replaced = (above[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      line.push(Math.min(replaced, (above[column] ?? 0) + 1, (line[column - 1] ?? 0) + 1));
    }
    above = line;
  }
  return above[b.length] ?? 0;
}

export function typeError(name: string, expectation: string, got: unknown): TypeError {
  return new TypeError(expected(name, expectation, got));
}

function expected(name: string, expectation: string, got: unknown): string {
  return `Expected \`${name}\` to be ${expectation}, got ${show(got)}`;
}

function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "an array" : "an object";
  return String(value);
}
