// V8 copies objects of more keys, and objects whose keys look like numbers, slower than it parses them.
const MOST_KEYS = 64;
const DIGIT = /^\d/;
// For each of their keys a copy loses what it gains by three values elsewhere.
const GAINS_PER_LOSS = 3;
// Deeper values could exhaust the stack. JSON.parse has none to exhaust.
const DEEPEST = 100;

type Spread = (object: object) => object;

/**
 * Where a value holds objects, so that its copies look at nothing else. It holds nothing of the value itself: elements of
 * one form share one plan, so a list of a thousand records has few.
 */
export interface CopyPlan {
  /** undefined for an array. */
  readonly spread: Spread | undefined;
  /** For an array of objects that are all of one form: the plan of each. */
  readonly each: CopyPlan | undefined;
  /** Otherwise: the objects in it, in any order. */
  readonly children: Child | undefined;
}

interface Child {
  readonly key: string | number;
  readonly plan: CopyPlan;
  readonly next: Child | undefined;
}

// V8 learns for each place in the code how to spread an object, and for no more than four forms at each. Beyond them it
// takes twice as long. So there are several places, and an object's keys decide which is its own.
const SPREADS: readonly Spread[] = [
  (object) => ({ ...object }),
  (object) => ({ ...object }),
  (object) => ({ ...object }),
  (object) => ({ ...object }),
  (object) => ({ ...object }),
  (object) => ({ ...object }),
  (object) => ({ ...object }),
  (object) => ({ ...object }),
];

const FLAT_ARRAY: CopyPlan = { spread: undefined, each: undefined, children: undefined };
const FLAT_OBJECTS = SPREADS.map((spread): CopyPlan => ({ ...FLAT_ARRAY, spread }));

/**
 * How to copy what JSON.parse has made: plain objects and dense arrays. undefined if a copy is not made sooner than
 * JSON.parse makes another value.
 */
export function planCopy(value: object): CopyPlan | undefined {
  const planner = new Planner();
  const plan = planner.plan(value, 0);
  return planner.losses * GAINS_PER_LOSS > planner.gains ? undefined : plan;
}

class Planner {
  gains = 0;
  losses = 0;

  plan(value: object, depth: number): CopyPlan | undefined {
    if (depth === DEEPEST) return undefined;
    return Array.isArray(value) ? this.#planArray(value, depth) : this.#planObject(value, depth);
  }

  #planArray(array: readonly unknown[], depth: number): CopyPlan | undefined {
    let last: Child | undefined;
    let isUniform = true;
    for (let key = 0; key < array.length; key++) {
      const value = array[key];
      if (!isObject(value)) {
        isUniform = false;
        continue;
      }
      const plan = this.plan(value, depth + 1);
      if (plan === undefined) return undefined;
      const isLikeLast = last === undefined || isSamePlan(plan, last.plan);
      isUniform &&= isLikeLast;
      last = { key, plan: isLikeLast ? (last?.plan ?? plan) : plan, next: last };
    }
    this.gains += array.length;
    if (last === undefined) return FLAT_ARRAY;
    return isUniform ? { ...FLAT_ARRAY, each: last.plan } : { ...FLAT_ARRAY, children: last };
  }

  #planObject(object: object, depth: number): CopyPlan | undefined {
    const keys = Object.keys(object);
    let children: Child | undefined;
    let characters = 0;
    for (const key of keys) {
      characters += key.length;
      const value = (object as Readonly<Record<string, unknown>>)[key];
      if (!isObject(value)) continue;
      const plan = this.plan(value, depth + 1);
      if (plan === undefined) return undefined;
      children = { key, plan, next: children };
    }
    // Those that are numbers come first.
    if (keys.length > MOST_KEYS || DIGIT.test(keys[0] ?? "")) this.losses += keys.length;
    else this.gains += keys.length;
    const flat = FLAT_OBJECTS[characters % FLAT_OBJECTS.length] ?? FLAT_ARRAY;
    return children === undefined ? flat : { ...flat, children };
  }
}

function isSamePlan(a: CopyPlan, b: CopyPlan): boolean {
  if (a === b) return true;
  if (a.spread !== b.spread) return false;
  if (a.each !== b.each && !(a.each && b.each && isSamePlan(a.each, b.each))) return false;
  let [left, right] = [a.children, b.children];
  while (left !== undefined && left.key === right?.key && isSamePlan(left.plan, right.plan)) {
    [left, right] = [left.next, right.next];
  }
  return left === undefined && right === undefined;
}

/** A value like this one that shares nothing with it. */
export function copyJson(value: object, { spread, each, children }: CopyPlan): object {
  if (each !== undefined) {
    const copy = (value as readonly unknown[]).slice();
    for (let i = 0; i < copy.length; i++) copy[i] = copyJson(copy[i] as object, each);
    return copy;
  }
  const copy = (spread === undefined ? (value as readonly unknown[]).slice() : spread(value)) as Record<
    string | number,
    unknown
  >;
  for (let child = children; child !== undefined; child = child.next) {
    // A key called __proto__ is the copy's own by now, so this replaces its value.
    copy[child.key] = copyJson(copy[child.key] as object, child.plan);
  }
  return copy;
}

export function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
