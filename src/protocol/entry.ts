/**
 * A value as it stands in Redis: the fields of one hash, shared with Python cachefence. Whatever reads the value is `V`: a
 * reader may keep it opened, so that callers who share a read share the work.
 */
export interface Entry<V> {
  readonly value: V;
  /** How long the last recompute took. */
  readonly deltaSeconds: number;
  /** When the value goes stale, in server time since the Unix epoch. */
  readonly expirySeconds: number;
  /** What the states of its tags were before its recompute began; "" for an entry without tags. */
  readonly tags: string;
}

/** What HMGET is asked for. */
export const ENTRY_FIELDS = ["v", "delta", "expiry", "tags"] as const;

export type StoredEntry<V> = Entry<V> | "corrupt" | undefined;

/**
 * An entry from what HMGET of {@link ENTRY_FIELDS} answered: `undefined` where there is none, `"corrupt"` where the fields
 * cannot be what cachefence wrote. A hash without `v` is not ours; who writes to it looks at that again.
 */
export function decodeEntry<V>(
  fields: readonly (Buffer | null | undefined)[],
  key: string,
  open: (key: string, bytes: Buffer) => V,
): StoredEntry<V> {
  // Each by its index, and not by iteration: every hit comes here.
  const value = fields[0];
  if (value == null) return undefined;
  const deltaSeconds = decodeSeconds(fields[1]);
  const expirySeconds = decodeSeconds(fields[2]);
  if (!isSeconds(deltaSeconds) || !isSeconds(expirySeconds)) return "corrupt";
  return { value: open(key, value), deltaSeconds, expirySeconds, tags: fields[3]?.toString() ?? "" };
}

/** True if both were written by one and the same store: no two end in the same microsecond. */
export function isSameEntry(a: Entry<unknown>, b: Entry<unknown>): boolean {
  return a.expirySeconds === b.expirySeconds && a.deltaSeconds === b.deltaSeconds;
}

function isSeconds(value: number): boolean {
  return value >= 0 && value < Infinity;
}

const ZERO = 48;
const POINT = 46;
const DECIMAL = /^(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;

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
      return secondsIn(field.toString("latin1"));
    }
  }
  if (digits > Number.MAX_SAFE_INTEGER || scale > 1e15 || (scale === 1 && field.length === 1)) {
    return secondsIn(field.toString("latin1"));
  }
  return scale === 0 ? digits : digits / scale;
}

/** The number of seconds in this text; NaN if it is not decimal: Number() takes blanks for 0, and reads hexadecimal. */
export function secondsIn(text: string): number {
  return DECIMAL.test(text) ? Number(text) : NaN;
}
