/**
 * Freezes a value with all that it holds; false, and nothing is frozen, if something in it is neither a plain object nor an
 * array: freezing would not protect what is inside a Buffer, a Map, a Set, a Date or an instance of a class. A getter is
 * code of somebody's, and may give each caller another object: that is not shared either.
 */
export function freezeDeeply(value: unknown): boolean {
  const found = new Set<object>();
  // A list instead of recursion: values may be deeper than the stack.
  const left: unknown[] = [value];
  for (let next = left.pop(); next !== undefined || left.length > 0; next = left.pop()) {
    if (typeof next === "function") return false;
    if (typeof next !== "object" || next === null || found.has(next)) continue;
    if (!isPlain(next)) return false;
    found.add(next);
    for (const key of Reflect.ownKeys(next)) {
      const property = Reflect.getOwnPropertyDescriptor(next, key)!;
      if (!("value" in property)) return false;
      left.push(property.value);
    }
  }
  for (const object of found) Object.freeze(object);
  return true;
}

function isPlain(object: object): boolean {
  if (Array.isArray(object)) return Object.getPrototypeOf(object) === Array.prototype;
  const prototype: unknown = Object.getPrototypeOf(object);
  return prototype === Object.prototype || prototype === null;
}
