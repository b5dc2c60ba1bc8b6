/** A value as it stands in Redis: the fields of one hash, shared byte for byte with Python cachefence. */
export interface Entry {
  /** The serialized value. */
  readonly value: Buffer;
  /** How long the last recompute took. */
  readonly deltaSeconds: number;
  /** When the value goes stale, in server time since the Unix epoch. */
  readonly expirySeconds: number;
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
  if (!(deltaSeconds >= 0) || !(expirySeconds >= 0)) return "corrupt";
  return { value, deltaSeconds, expirySeconds };
}

/** True if both were written by one and the same store. */
export function isSameEntry(a: Entry, b: Entry): boolean {
  return a.expirySeconds === b.expirySeconds && a.deltaSeconds === b.deltaSeconds && a.value.equals(b.value);
}

function decodeSeconds(field: Buffer | null | undefined): number {
  if (field == null || field.length === 0) return NaN;
  const seconds = Number(field.toString("latin1"));
  return Number.isFinite(seconds) ? seconds : NaN;
}
