/** A value as it stands in Redis: the fields of one hash, shared byte for byte with Python cachefence. */
export interface Entry {
  /** The serialized value. */
  readonly value: Buffer;
  /** How long the last recompute took. */
  readonly deltaSeconds: number;
  /** When the value goes stale, in server time since the Unix epoch. */
  readonly expirySeconds: number;
}

/** To the microsecond: no clock here is better, and a shorter number is read faster. */
export function roundSeconds(seconds: number): number {
  return Math.round(seconds * 1e6) / 1e6;
}

/** The fields of an entry as HSET takes them. */
export function encodeEntry(entry: Entry): [string, Buffer, string, string, string, string] {
  return ["v", entry.value, "delta", String(entry.deltaSeconds), "expiry", String(entry.expirySeconds)];
}

/**
 * An entry from what HMGET of `v`, `delta` and `expiry` answered: `undefined` where there is none, `"corrupt"` where the
 * fields cannot be what cachefence wrote. A hash without `v` is not ours; who writes to it looks at that again.
 */
export function decodeEntry([value, delta, expiry]: readonly (Buffer | null | undefined)[]):
  Entry | "corrupt" | undefined {
  if (value == null) return undefined;
  const deltaSeconds = decodeSeconds(delta);
  const expirySeconds = decodeSeconds(expiry);
  if (!isSeconds(deltaSeconds) || !isSeconds(expirySeconds)) return "corrupt";
  return { value, deltaSeconds, expirySeconds };
}

/** True if both were written by one and the same store. */
export function isSameEntry(a: Entry, b: Entry): boolean {
  return a.expirySeconds === b.expirySeconds && a.deltaSeconds === b.deltaSeconds && a.value.equals(b.value);
}

function isSeconds(value: number): boolean {
  return value >= 0 && value < Infinity;
}

const ZERO = 48;
const POINT = 46;

// Read digit by digit: by way of a string it takes four times as long, and every hit has two of them. The quotient of two
// integers that are exact is the double nearest to the text; whatever else stands there (Python's 17 digits or 1e-05,
// garbage) goes by way of a string.
function decodeSeconds(field: Buffer | null | undefined): number {
  if (field == null || field.length === 0) return NaN;
  let digits = 0;
  let scale = 0;
  for (const byte of field) {
    if (byte >= ZERO && byte < ZERO + 10) {
      digits = digits * 10 + (byte - ZERO);
      scale *= 10;
    } else if (byte === POINT && scale === 0) {
      scale = 1;
    } else {
      return Number(field.toString("latin1"));
    }
  }
  if (digits > Number.MAX_SAFE_INTEGER || scale > 1e15) return Number(field.toString("latin1"));
  return scale === 0 ? digits : digits / scale;
}
