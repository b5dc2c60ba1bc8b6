// Objects with more keys than this are dictionaries to V8, and it parses one sooner than it copies one.
const MOST_KEYS = 100;
// Deeper values could exhaust the stack. JSON.parse has none to exhaust.
const DEEPEST = 100;

/** True if {@link copyJson} makes a copy, and sooner than JSON.parse would make another value. */
export function isQuicklyCopied(value: unknown, depth = 0): boolean {
  if (!isObject(value)) return true;
  if (depth === DEEPEST) return false;
  if (Array.isArray(value)) return value.every((child) => isQuicklyCopied(child, depth + 1));
  let keys = 0;
  for (const key in value) {
    // An enumerable key of Object.prototype would come to be the copy's own.
    if (++keys > MOST_KEYS || !Object.hasOwn(value, key) || !isQuicklyCopied(value[key], depth + 1)) return false;
  }
  return true;
}

/** A value like this one that shares nothing with it. Only for what JSON.parse has made: plain objects and dense arrays. */
export function copyJson(value: unknown): unknown {
  if (!isObject(value)) return value;
  return Array.isArray(value) ? copyArray(value) : copyObject(value);
}

function copyArray(array: readonly unknown[]): unknown[] {
  const copy = array.slice();
  for (let i = 0; i < copy.length; i++) {
    const child = copy[i];
    if (isObject(child)) copy[i] = copyJson(child);
  }
  return copy;
}

function copyObject(object: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const copy = { ...object };
  for (const key in copy) {
    const child = copy[key];
    // A key called __proto__ is the object's own here, so this replaces its value.
    if (isObject(child)) copy[key] = copyJson(child);
  }
  return copy;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
