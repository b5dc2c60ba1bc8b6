import { isObject } from "./json-copy.js";

/** Freezes what JSON.parse has made, at every level. It may be as deep as JSON.parse allows: no call for each level. */
export function freezeJson(value: object): void {
  const left = [value];
  for (let part = left.pop(); part !== undefined; part = left.pop()) {
    // An array of numbers need not be copied to be looked through.
    for (const child of (Array.isArray(part) ? part : Object.values(part)) as unknown[]) {
      if (isObject(child)) left.push(child);
    }
    Object.freeze(part);
  }
}

/**
 * Freezes a value of the user's making at every level, if all of it is protected then: false, with nothing frozen, if not.
 *
 * Freezing protects plain objects and for arrays of data properties. What is in a typed array, Map, Set or Date can be changed
 * all the same; an instance of any other class may have private state, a function and an accessor have what they enclose.
 */
export function freezeIfProtected(value: unknown): boolean {
  if (!isObject(value)) return typeof value !== "function";
  const parts = new Set([value]);
  // This comes to those that are added meanwhile too, and to one in a cycle once.
  for (const part of parts) {
    if (!isPlain(part)) return false;
    for (const key of Reflect.ownKeys(part)) {
      const property = Reflect.getOwnPropertyDescriptor(part, key);
      if (property === undefined || !("value" in property) || typeof property.value === "function") return false;
      if (isObject(property.value)) parts.add(property.value);
    }
  }
  parts.forEach((part) => Object.freeze(part));
  return true;
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (Array.isArray(value)) return prototype === Array.prototype;
  return prototype === Object.prototype || prototype === null;
}
