// Objects with more keys than this are dictionaries to V8, and it parses one sooner than it copies one.
const MOST_KEYS = 100;
// Deeper values could exhaust the stack. JSON.parse has none to exhaust.
const DEEPEST = 100;

/** Makes a value like the original that shares nothing with it. */
export type JsonCopier = () => unknown;

/** What a copy of an object needs beside its own properties: copies of the objects among them. */
type Plan =
  | { readonly kind: "array"; readonly array: readonly unknown[]; readonly inner: readonly Inner<number>[] }
  | {
      readonly kind: "object";
      readonly object: Readonly<Record<string, unknown>>;
      readonly inner: readonly Inner<string>[];
    };

interface Inner<K> {
  readonly key: K;
  readonly plan: Plan;
}

/**
 * The copier of a value that JSON.parse has made (plain objects, dense arrays), which becomes its original; undefined where
 * JSON.parse would be the sooner, or the safer. Where the objects are is found out once: a flat one is copied at a stroke.
 */
export function copierOf(value: unknown): JsonCopier | undefined {
  if (!isObject(value)) return () => value;
  const plan = planOf(value, 0);
  return plan && (() => copy(plan));
}

function planOf(value: object, depth: number): Plan | undefined {
  if (depth === DEEPEST) return undefined;
  if (Array.isArray(value)) {
    const inner = innerOf(value.keys(), (index) => value[index] as unknown, depth);
    return inner && { kind: "array", array: value, inner };
  }
  const object = value as Record<string, unknown>;
  const keys: string[] = [];
  for (const key in object) {
    // An enumerable key of Object.prototype would come to be the copy's own.
    if (keys.push(key) > MOST_KEYS || !Object.hasOwn(object, key)) return undefined;
  }
  const inner = innerOf(keys, (key) => object[key], depth);
  return inner && { kind: "object", object, inner };
}

function innerOf<K>(keys: Iterable<K>, get: (key: K) => unknown, depth: number): Inner<K>[] | undefined {
  const inner: Inner<K>[] = [];
  for (const key of keys) {
    const child = get(key);
    if (!isObject(child)) continue;
    const plan = planOf(child, depth + 1);
    if (plan === undefined) return undefined;
    inner.push({ key, plan });
  }
  return inner;
}

function copy(plan: Plan): unknown {
  if (plan.kind === "array") {
    const array = plan.array.slice();
    for (const { key, plan: child } of plan.inner) array[key] = copy(child);
    return array;
  }
  const object = { ...plan.object };
  // A key called __proto__ is the object's own here, so this replaces its value.
  for (const { key, plan: child } of plan.inner) object[key] = copy(child);
  return object;
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
