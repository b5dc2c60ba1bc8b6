import { deserialize, serialize } from "node:v8";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { SerializationError } from "../../src/errors.js";
import { planCopy } from "../../src/call/json-copy.js";
import type { ValueCodec } from "../../src/call/value-codec.js";
import { createValueCodec } from "../../src/call/value-codec.js";
import { settle } from "../support/manual-runtime.js";

const own = { freezes: false };
const frozen = { freezes: true };
const json = createValueCodec(undefined, undefined, own);

/** What the only caller of a stored value gets. */
function decode(codec: ValueCodec, stored: Buffer): unknown {
  return codec.open("k", stored).take();
}

/** What several callers of one stored value get. */
function takeMany(codec: ValueCodec, stored: Buffer, callers = 5): unknown[] {
  const value = codec.open("k", stored);
  return Array.from({ length: callers }, () => value.take());
}

/** How often JSON.parse is called. */
function countParses(run: () => void): number {
  const parse = vi.spyOn(JSON, "parse");
  try {
    run();
    return parse.mock.calls.length;
  } finally {
    parse.mockRestore();
  }
}

function dictionary(keys: number, nameOf: (i: number) => string | number): Record<string, number> {
  return Object.fromEntries(Array.from({ length: keys }, (_, i) => [nameOf(i), i]));
}

/** Every object in it, itself included. */
function partsOf(value: unknown, parts = new Set<object>()): Set<object> {
  if (typeof value !== "object" || value === null || parts.has(value)) return parts;
  parts.add(value);
  for (const key of Reflect.ownKeys(value)) partsOf((value as Record<PropertyKey, unknown>)[key], parts);
  return parts;
}

function thrownBy(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error("Expected it to throw");
}

/** Changes everything in a value that can be changed. */
function spoil(value: unknown): void {
  if (typeof value !== "object" || value === null) return;
  Object.values(value).forEach(spoil);
  if (Array.isArray(value)) value.push("spoiled");
  else Object.assign(value, { spoiled: true });
}

describe("the default codec", () => {
  it("gives every JSON value back as it was", () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        const plain: unknown = JSON.parse(JSON.stringify(value));
        expect(decode(json, json.encode("k", value))).toEqual(plain);
      }),
      { seed: 3, numRuns: 500 },
    );
  });

  it("stores null as JSON null and undefined as JSON null plus a space, and tells them apart", () => {
    expect(json.encode("k", null).toString()).toBe("null");
    expect(json.encode("k", undefined).toString()).toBe("null ");
    expect(decode(json, Buffer.from("null"))).toBeNull();
    expect(decode(json, Buffer.from("null "))).toBeUndefined();
    expect(JSON.parse("null ")).toBeNull(); // What other readers see.
  });

  it("reads JSON with white space of Python's making", () => {
    expect(decode(json, Buffer.from('{"a": [1, null], "b": "\\u00e4"}'))).toEqual({ a: [1, null], b: "ä" });
  });

  it("makes another value for each caller of one stored value, whatever the others do with theirs", () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), fc.nat(3), (value, settledAfter) => {
        const stored = json.open("k", json.encode("k", value));
        const plain: unknown = JSON.parse(JSON.stringify(value));
        const seen = new Set<object>();
        for (let caller = 0; caller < 6; caller++) {
          if (caller === settledAfter) stored.settle();
          const taken = stored.take();
          expect(taken).toStrictEqual(plain);
          for (const part of partsOf(taken)) {
            expect(seen.has(part)).toBe(false);
            seen.add(part);
          }
          spoil(taken);
        }
      }),
      { seed: 4, numRuns: 500 },
    );
  });

  it.each([
    [
      "records with the same keys",
      [
        { a: [1], b: { c: 1 } },
        { a: [2, 3], b: { c: 2 } },
      ],
    ],
    ["records with other keys", [{ a: [1] }, { b: [1] }, { a: [1], b: 1 }, { a: 1, b: [1] }]],
    [
      "records of which some lack something",
      [{ a: { b: {} } }, { a: { b: null } }, { a: null }, null, { a: { b: {} } }],
    ],
    ["a key that holds an object, and then an array", [{ a: { b: 1 } }, { a: [1] }, { a: { b: 1 } }]],
    ["lists of lists", [[[1], [2]], [[3]], [], [[[4]], 5, {}]]],
    ["lists whose lists differ within", [[{ a: {} }], [{ a: [] }], [{ a: {} }, { a: [] }]]],
    ["numbers", [1, 1.5, [0.5, 2], [3, "text", { x: 2 ** 53 }]]],
  ])("copies %s", (_name, value) => {
    const plan = planCopy(value);
    expect(plan).toBeDefined();
    const stored = json.encode("k", value);
    for (const taken of takeMany(json, stored)) {
      expect(taken).toStrictEqual(value);
      spoil(taken);
    }
  });

  it("keeps minus zero", () => {
    for (const taken of takeMany(json, Buffer.from('[-0,{"a":-0}]'))) expect(taken).toStrictEqual([-0, { a: -0 }]);
  });

  it("makes another one of a value so deep that a copy would exhaust the stack", () => {
    const depth = 50_000;
    const stored = Buffer.from("[".repeat(depth) + "]".repeat(depth));
    const values = takeMany(json, stored) as unknown[][];
    expect(new Set(values).size).toBe(5);
    for (const value of values) {
      let levels = 1;
      for (let inner = value; inner.length > 0; inner = inner[0] as unknown[]) levels++;
      expect(levels).toBe(depth);
    }
  });

  it.each([
    ["many keys", dictionary(101, (i) => `key ${i}`)],
    ["keys that are numbers", dictionary(20, (i) => 1000 + i)],
    ["keys that are numbers beyond an array's", dictionary(20, (i) => 5e9 + i)],
  ])("parses a dictionary with %s for each caller, for that is sooner done", (_name, value) => {
    expect(planCopy([{ value, list: [1] }])).toBeUndefined();
    const stored = json.encode("k", { value, list: [1] });
    for (const taken of takeMany(json, stored)) {
      expect(taken).toEqual({ value, list: [1] });
      spoil(taken);
    }
  });

  it("copies a large value with a small dictionary in it", () => {
    const value = { counts: dictionary(3, (i) => i), list: Array.from({ length: 100 }, (_, i) => ({ i })) };
    expect(planCopy(value)).toBeDefined();
    for (const taken of takeMany(json, json.encode("k", value))) {
      expect(taken).toEqual(value);
      spoil(taken);
    }
  });

  it("parses twice for any number of callers, and keeps nothing when the stored value has gone", () => {
    const stored = json.encode("k", { list: [1] });
    expect(countParses(() => takeMany(json, stored, 50))).toBe(2);
    expect(countParses(() => decode(json, stored))).toBe(1);
  });

  it("parses once for any number of callers of a settled value", () => {
    const stored = json.open("k", json.encode("k", { list: [1] }));
    const parses = countParses(() => {
      stored.settle();
      stored.settle();
      for (let caller = 0; caller < 50; caller++) spoil(stored.take());
    });
    expect(parses).toBe(1);
    expect(stored.take()).toEqual({ list: [1] });
  });

  it("holds its bytes until it is settled, and then only if it has no value to copy", () => {
    const bytes = json.encode("k", { list: [1] });
    const stored = json.open("k", bytes);
    for (let caller = 0; caller < 3; caller++) stored.take();
    expect(stored.bytes).toBe(bytes);
    stored.settle();
    expect(stored.bytes).toBeUndefined();

    const reply = Buffer.concat([
      Buffer.alloc(1000),
      json.encode(
        "k",
        dictionary(101, (i) => `key ${i}`),
      ),
    ]);
    const parsed = json.open("k", reply.subarray(1000));
    parsed.settle();
    expect(parsed.bytes).toEqual(reply.subarray(1000));
    // Not a part of the reply, which would be held with it.
    expect(parsed.bytes!.buffer.byteLength).toBe(reply.length - 1000);
    expect(parsed.take()).toHaveProperty("key 100", 100);
  });

  it("tells each caller that the bytes cannot be read, settled or not", () => {
    const stored = json.open("k", Buffer.from("{"));
    const message = () => (thrownBy(() => stored.take()) as SerializationError).message;
    const unsettled = message();
    stored.settle();
    expect([message(), message()]).toEqual([unsettled, unsettled]);
  });

  it("gives undefined and bare values, parsed once, to each caller as they are", () => {
    for (const value of [undefined, null, 1, "text", true]) {
      const stored = json.encode("k", value);
      const parses = countParses(() => expect(takeMany(json, stored, 4)).toEqual([value, value, value, value]));
      expect(parses).toBe(value === undefined ? 0 : 1);
    }
  });

  const expectOwnKeys = () => {
    const stored = Buffer.from('{"__proto__":{"list":[1]},"a":{}}');
    const parses = countParses(() => {
      for (const taken of takeMany(json, stored) as Record<string, object>[]) {
        expect(Object.keys(taken)).toEqual(["__proto__", "a"]);
        expect(Object.getPrototypeOf(taken)).toBe(Object.prototype);
        expect(JSON.stringify(taken)).toBe('{"__proto__":{"list":[1]},"a":{}}');
        expect(Object.hasOwn(taken.a!, "spoiled")).toBe(false);
        spoil(taken);
      }
    });
    // It was copied, and not parsed for each.
    expect(parses).toBe(2);
  };

  it("keeps a key called __proto__ a key", () => {
    expectOwnKeys();
  });

  it("takes nothing from Object.prototype", () => {
    Object.assign(Object.prototype, { inherited: ["by everything"] });
    try {
      expectOwnKeys();
    } finally {
      delete (Object.prototype as { inherited?: unknown }).inherited;
    }
  });

  it("reads each of several entries in turn", () => {
    const [one, two] = [json.open("k", json.encode("k", 1)), json.open("k", json.encode("k", 2))];
    expect([one, two, one, two].map((stored) => stored.take())).toEqual([1, 2, 1, 2]);
  });

  it.each([
    ["a BigInt", 1n],
    ["a function", () => 1],
    ["a symbol", Symbol("s")],
    ["an object whose toJSON gives nothing", { toJSON: () => undefined }],
  ])("refuses %s with a SerializationError that has the key and the cause", (_name, value) => {
    const error = thrownBy(() => json.encode("the key", value)) as SerializationError;
    expect(error).toBeInstanceOf(SerializationError);
    expect(error.key).toBe("the key");
    expect(error.message).toContain("serialize");
    expect(error.cause).toBeInstanceOf(TypeError);
  });

  it("refuses bytes that are no JSON", () => {
    const error = thrownBy(() => json.open("the key", Buffer.from("{")).take()) as SerializationError;
    expect(error).toBeInstanceOf(SerializationError);
    expect(error.key).toBe("the key");
    expect(error.message).toContain("deserialize");
    expect(error.cause).toBeInstanceOf(SyntaxError);
  });
});

describe("the default codec that freezes", () => {
  const freezing = createValueCodec(undefined, undefined, frozen);

  it("gives all callers of a stored value one value, parsed once and frozen at every level, as it was", () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), fc.boolean(), (value, settles) => {
        const stored = freezing.open("k", freezing.encode("k", value));
        const plain: unknown = JSON.parse(JSON.stringify(value));
        const parses = countParses(() => {
          const first = stored.take();
          if (settles) stored.settle();
          expect(first).toStrictEqual(plain);
          for (const part of partsOf(first)) expect(Object.isFrozen(part)).toBe(true);
          expect(stored.take()).toBe(first);
          expect(stored.take()).toBe(first);
          expect(stored.bytes === undefined).toBe(settles);
        });
        expect(parses).toBe(1);
      }),
      { seed: 5, numRuns: 500 },
    );
  });

  it("lets nobody change it", () => {
    const value = decode(freezing, Buffer.from('{"list":[{"a":1}],"map":{}}')) as {
      list: { a: number }[];
      map: object;
    };
    expect(() => (value.list = [])).toThrow(TypeError);
    expect(() => value.list.push({ a: 2 })).toThrow(TypeError);
    expect(() => (value.list[0]!.a = 2)).toThrow(TypeError);
    expect(() => Object.assign(value.map, { b: 1 })).toThrow(TypeError);
    expect(value).toEqual({ list: [{ a: 1 }], map: {} });
  });

  it.each([
    ["large", { list: Array.from({ length: 20_000 }, (_, i) => ({ i, text: "x".repeat(40), of: [i, [i]] })) }],
    ["a dictionary", dictionary(2000, (i) => `key ${i}`)],
    ["a dictionary of numbers", dictionary(200, (i) => 1000 * i)],
  ])("parses it once when it is %s", (_name, value) => {
    const stored = freezing.encode("k", value);
    const parses = countParses(() => {
      const taken = takeMany(freezing, stored);
      expect(new Set(taken).size).toBe(1);
      expect(taken[0]).toEqual(value);
      expect([...partsOf(taken[0])].every(Object.isFrozen)).toBe(true);
    });
    expect(parses).toBe(1);
  });

  it("freezes a value so deep that a call for each level would exhaust the stack", () => {
    const depth = 50_000;
    const stored = Buffer.from('[{"a":'.repeat(depth) + "0" + "}]".repeat(depth));
    let levels = 0;
    for (let inner = decode(freezing, stored); Object.isFrozen(inner) && typeof inner === "object"; levels++) {
      const [held] = inner as [{ a: unknown }];
      if (!Object.isFrozen(held)) break;
      inner = held.a;
    }
    expect(levels).toBe(depth);
  });

  it("freezes what a key called __proto__ holds", () => {
    const value = decode(freezing, Buffer.from('{"__proto__":{"list":[1]}}')) as object;
    const [held] = Object.values(value) as [{ list: number[] }];
    expect([value, held, held.list].every(Object.isFrozen)).toBe(true);
    expect(Object.isFrozen(Object.prototype)).toBe(false);
  });

  it("tells each caller that the bytes cannot be read", () => {
    const stored = freezing.open("the key", Buffer.from("{"));
    for (let caller = 0; caller < 2; caller++) {
      expect(thrownBy(() => stored.take())).toMatchObject({ name: "SerializationError", key: "the key" });
    }
  });
});

describe("a codec of the caller's that freezes", () => {
  function codecOf(make: (stored: Buffer) => unknown) {
    const deserialize = vi.fn(make);
    return { deserialize, codec: createValueCodec(String, deserialize, frozen) };
  }

  const cycle = () => {
    const value = { list: [] as unknown[] };
    value.list.push(value, { value });
    return value;
  };

  it.each<[string, () => unknown]>([
    ["plain objects and arrays", () => ({ list: [{ a: 1n }, undefined, Symbol.iterator], text: "" })],
    ["objects without a prototype", () => Object.assign(Object.create(null) as object, { list: [1] })],
    ["a cycle", cycle],
    ["a sparse array", () => Object.assign([], { 5: {} })],
    ["what no loop over keys finds", () => ({ [Symbol.for("s")]: { a: [] }, ...Object.defineProperty({}, "b", {}) })],
    ["what is frozen already, but not within", () => Object.freeze({ list: [{}] })],
    ["a bare value", () => "text"],
    ["undefined", () => undefined],
  ])("shares %s, deserialized once and frozen at every level", (_name, make) => {
    const { codec, deserialize } = codecOf(make);
    const taken = takeMany(codec, Buffer.from("0"));
    expect(taken[0]).toEqual(make());
    expect(new Set(taken).size).toBe(1);
    expect([...partsOf(taken[0])].every(Object.isFrozen)).toBe(true);
    expect(deserialize).toHaveBeenCalledTimes(1);
  });

  class Account {
    #balance = 0;
    add() {
      return ++this.#balance;
    }
  }

  it.each<[string, () => unknown]>([
    ["a Buffer", () => Buffer.from("bytes")],
    ["an empty Buffer", () => Buffer.alloc(0)],
    ["a typed array", () => new Float64Array(2)],
    ["an ArrayBuffer", () => new ArrayBuffer(2)],
    ["a DataView", () => new DataView(new ArrayBuffer(2))],
    ["a Map", () => new Map()],
    ["a Set", () => new Set([1])],
    ["a WeakMap", () => new WeakMap()],
    ["a Date", () => new Date(0)],
    ["a RegExp", () => /a/g],
    ["an Error", () => new Error("an error")],
    ["a URL", () => new URL("http://localhost")],
    ["an instance of a class", () => new Account()],
    ["an instance of an Array of the user's", () => new (class extends Array {})()],
    ["an object that inherits", () => Object.create({ inherited: [] }) as object],
    ["a function", () => () => undefined],
  ])("gives each caller its own value, as it is, where there is %s in it", (_name, make) => {
    for (const wrap of [(part: unknown) => part, (part: unknown) => ({ list: [{}, { part }], after: {} })]) {
      const { codec, deserialize } = codecOf(() => wrap(make()));
      const stored = codec.open("k", Buffer.from("0"));
      const taken = [stored.take(), stored.take()];
      stored.settle();
      taken.push(stored.take());
      expect(new Set(taken.flatMap((value) => [...partsOf(value)])).size).toBe(3 * partsOf(taken[0]).size);
      expect(new Set(taken).size).toBe(3);
      expect(taken.some(Object.isFrozen)).toBe(false);
      expect(deserialize).toHaveBeenCalledTimes(3);
    }
  });

  it.each<[string, () => object]>([
    [
      "a getter",
      () => ({
        get now() {
          return [];
        },
      }),
    ],
    [
      "a setter",
      () => ({
        set now(_value: unknown) {
          /* Keeps it. */
        },
      }),
    ],
    ["a getter that no loop over keys finds", () => Object.defineProperty([], Symbol(), { get: () => [] })],
  ])("gives each caller its own value where there is %s in it", (_name, make) => {
    const { codec } = codecOf(make);
    const taken = takeMany(codec, Buffer.from("0"));
    expect(new Set(taken).size).toBe(5);
    expect(taken.some(Object.isFrozen)).toBe(false);
  });

  it("decides by the first value whether callers share one", () => {
    const { codec, deserialize } = codecOf(() => ({}));
    deserialize.mockReturnValueOnce({ map: new Map() });
    const [, ...later] = takeMany(codec, Buffer.from("0"));
    expect(new Set(later).size).toBe(4);
    expect(later.some(Object.isFrozen)).toBe(false);
  });

  it("may write to the buffer it is given and hand it on: each caller has another", () => {
    const { codec } = codecOf((stored) => stored);
    const bytes = Buffer.from("bytes");
    const taken = takeMany(codec, bytes) as Buffer[];
    taken[0]!.fill(0);
    expect(taken[1]).toEqual(Buffer.from("bytes"));
    expect(bytes).toEqual(Buffer.from("bytes"));
  });

  it("is an error when its deserializer is asynchronous", () => {
    const { codec } = codecOf(() => Promise.resolve(1));
    expect(thrownBy(() => decode(codec, Buffer.from("0")))).toMatchObject({ name: "SerializationError" });
  });
});

describe("a codec of the caller's", () => {
  it("takes any bytes through unharmed", () => {
    const raw = createValueCodec(
      (value) => value as Uint8Array,
      (stored) => stored,
      own,
    );
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(decode(raw, raw.encode("k", bytes))).toEqual(Buffer.from(bytes));
      }),
      { seed: 4 },
    );
  });

  it("keeps what JSON loses", () => {
    const v8 = createValueCodec(serialize, deserialize, own);
    const value = { at: new Date(5), of: new Map([[1, new Set([2n])]]), none: undefined };
    expect(decode(v8, v8.encode("k", value))).toEqual(value);
  });

  it("may reuse its output memory as soon as it has returned", () => {
    const memory = Buffer.from("first");
    const raw = createValueCodec(
      () => memory,
      (stored) => stored.toString(),
      own,
    );
    const stored = raw.encode("k", 0);
    memory.write("later");
    expect(decode(raw, stored)).toBe("first");
  });

  it("may write to the buffer it is given: the next caller has another", () => {
    const read = (stored: Buffer) => {
      const text = stored.toString();
      stored.fill(0);
      return text;
    };
    const greedy = createValueCodec(String, read, own);
    const stored = greedy.encode("k", "value");
    expect(takeMany(greedy, stored, 2)).toEqual(["value", "value"]);
  });

  it("stores a string as UTF-8, and a view's own bytes only", () => {
    const whole = new Uint8Array([1, 2, 3, 4]);
    expect(createValueCodec(() => "ä€", String, own).encode("k", 0)).toEqual(Buffer.from("ä€", "utf8"));
    expect(createValueCodec(() => whole.subarray(1, 3), String, own).encode("k", 0)).toEqual(Buffer.from([2, 3]));
  });

  it("calls its deserializer once for each caller, and not to be settled", () => {
    const read = vi.fn((stored: Buffer) => ({ text: stored.toString() }));
    const stored = createValueCodec(String, read, own).open("k", Buffer.from("text"));
    stored.settle();
    expect(read).not.toHaveBeenCalled();
    const taken = [stored.take(), stored.take(), stored.take()];
    expect(taken).toEqual([{ text: "text" }, { text: "text" }, { text: "text" }]);
    expect(new Set(taken).size).toBe(3);
    expect(read).toHaveBeenCalledTimes(3);
  });

  it.each([undefined, null, 1, {}, [1], new ArrayBuffer(1)])("is an error when it makes %s", (made) => {
    const codec = createValueCodec(() => made as string, String, own);
    const error = thrownBy(() => codec.encode("k", 0)) as SerializationError;
    expect(error).toBeInstanceOf(SerializationError);
    expect((error.cause as Error).message).toContain("Expected the serializer to return a string or Uint8Array");
  });

  it.each(["serializer", "deserializer"] as const)(
    "is an error when its %s is asynchronous, and what comes of that is no unhandled rejection",
    async (name) => {
      const unhandled: unknown[] = [];
      const listener = (reason: unknown) => void unhandled.push(reason);
      process.on("unhandledRejection", listener);
      try {
        const rejects = () => Promise.reject(new Error("no")) as never;
        const codec = createValueCodec(rejects, rejects, own);
        const act = () => (name === "serializer" ? codec.encode("k", 0) : decode(codec, Buffer.from("0")));
        const error = thrownBy(act) as SerializationError;
        expect(error).toBeInstanceOf(SerializationError);
        expect(error.cause).toEqual(new TypeError(`Expected the ${name} to return its result, got a promise of it`));
        await settle();
      } finally {
        process.off("unhandledRejection", listener);
      }
      expect(unhandled).toEqual([]);
    },
  );

  it("has its own error as the cause, untouched", () => {
    const cause = new Error("no");
    const fails = () => {
      throw cause;
    };
    const codec = createValueCodec(fails, fails, own);
    expect(thrownBy(() => codec.encode("k", 0))).toMatchObject({ name: "SerializationError", key: "k", cause });
    expect(thrownBy(() => decode(codec, Buffer.from("")))).toMatchObject({ name: "SerializationError", cause });
  });
});
