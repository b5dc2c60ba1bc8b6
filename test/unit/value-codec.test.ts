import { deserialize, serialize } from "node:v8";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { SerializationError } from "../../src/errors.js";
import { copierOf } from "../../src/call/json-copy.js";
import type { StoredValue } from "../../src/call/value-codec.js";
import { createValueCodec as createCodec } from "../../src/call/value-codec.js";
import { settle } from "../support/manual-runtime.js";

/** A codec whose callers of one buffer share what is opened of it, as callers of one read do. */
function createValueCodec(
  ...[serialize, deserialize, how = { freezes: false }]: Partial<Parameters<typeof createCodec>>
) {
  const codec = createCodec(serialize, deserialize, how);
  const opened = new WeakMap<Buffer, StoredValue>();
  const decode = (key: string, stored: Buffer): unknown => {
    const value = opened.get(stored) ?? codec.open(key, stored);
    opened.set(stored, value);
    return value.take();
  };
  return { encode: (key: string, value: unknown) => codec.encode(key, value), decode };
}

const json = createValueCodec();
const frozen = createValueCodec(undefined, undefined, { freezes: true });

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
        expect(json.decode("k", json.encode("k", value))).toEqual(plain);
      }),
      { seed: 3, numRuns: 500 },
    );
  });

  it("stores null as JSON null and undefined as JSON null plus a space, and tells them apart", () => {
    expect(json.encode("k", null).toString()).toBe("null");
    expect(json.encode("k", undefined).toString()).toBe("null ");
    expect(json.decode("k", Buffer.from("null"))).toBeNull();
    expect(json.decode("k", Buffer.from("null "))).toBeUndefined();
    expect(JSON.parse("null ")).toBeNull(); // What other readers see.
  });

  it("reads JSON with white space of Python's making", () => {
    expect(json.decode("k", Buffer.from('{"a": [1, null], "b": "\\u00e4"}'))).toEqual({ a: [1, null], b: "ä" });
  });

  it("makes another value for each caller, from one read too, whatever the others do with theirs", () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        const stored = json.encode("k", value);
        const plain: unknown = JSON.parse(JSON.stringify(value));
        for (let caller = 0; caller < 5; caller++) {
          const own = json.decode("k", stored);
          expect(own).toEqual(plain);
          spoil(own);
        }
      }),
      { seed: 4, numRuns: 500 },
    );
  });

  it("makes another one of a value so deep that a copy would exhaust the stack", () => {
    const depth = 50_000;
    const stored = Buffer.from("[".repeat(depth) + "]".repeat(depth));
    const values = [1, 2, 3, 4, 5].map(() => json.decode("k", stored) as unknown[]);
    expect(new Set(values).size).toBe(5);
    for (const value of values) {
      let levels = 1;
      for (let inner = value; inner.length > 0; inner = inner[0] as unknown[]) levels++;
      expect(levels).toBe(depth);
    }
  });

  it("makes another one of a dictionary, which is parsed sooner than copied", () => {
    const dictionary = Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`key ${i}`, { list: [i] }]));
    expect(copierOf([{ dictionary }])).toBeUndefined();
    const stored = json.encode("k", { dictionary });
    for (let caller = 0; caller < 5; caller++) {
      const own = json.decode("k", stored);
      expect(own).toEqual({ dictionary });
      spoil(own);
    }
  });

  it("parses three times for any number of callers of one read, and anew for those of another", () => {
    const parse = vi.spyOn(JSON, "parse");
    try {
      const stored = json.encode("k", { list: [1] });
      for (let caller = 0; caller < 50; caller++) json.decode("k", stored);
      expect(parse).toHaveBeenCalledTimes(3);
      json.decode("k", Buffer.from(stored));
      expect(parse).toHaveBeenCalledTimes(4);
    } finally {
      parse.mockRestore();
    }
  });

  it("gives undefined and bare values to each caller as they are", () => {
    for (const value of [undefined, null, 1, "text", true]) {
      const stored = json.encode("k", value);
      expect([1, 2, 3, 4].map(() => json.decode("k", stored))).toEqual([value, value, value, value]);
    }
  });

  const expectOwnKeys = () => {
    const stored = Buffer.from('{"__proto__":{"list":[1]},"a":{}}');
    for (let caller = 0; caller < 5; caller++) {
      const own = json.decode("k", stored) as Record<string, object>;
      expect(Object.keys(own)).toEqual(["__proto__", "a"]);
      expect(Object.getPrototypeOf(own)).toBe(Object.prototype);
      expect(JSON.stringify(own)).toBe('{"__proto__":{"list":[1]},"a":{}}');
      expect(Object.hasOwn(own.a!, "spoiled")).toBe(false);
      spoil(own);
    }
  };

  it("keeps a key called __proto__ a key", () => {
    const parse = vi.spyOn(JSON, "parse");
    try {
      expectOwnKeys();
      // It was copied, and not parsed for each.
      expect(parse).toHaveBeenCalledTimes(3);
    } finally {
      parse.mockRestore();
    }
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
    const [one, two] = [json.encode("k", 1), json.encode("k", 2)];
    expect([one, two, one, two].map((stored) => json.decode("k", stored))).toEqual([1, 2, 1, 2]);
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
    const error = thrownBy(() => json.decode("the key", Buffer.from("{"))) as SerializationError;
    expect(error).toBeInstanceOf(SerializationError);
    expect(error.key).toBe("the key");
    expect(error.message).toContain("deserialize");
    expect(error.cause).toBeInstanceOf(SyntaxError);
  });
});

describe("a codec of the caller's", () => {
  it("takes any bytes through unharmed", () => {
    const raw = createValueCodec(
      (value) => value as Uint8Array,
      (stored) => stored,
    );
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(raw.decode("k", raw.encode("k", bytes))).toEqual(Buffer.from(bytes));
      }),
      { seed: 4 },
    );
  });

  it("keeps what JSON loses", () => {
    const v8 = createValueCodec(serialize, deserialize);
    const value = { at: new Date(5), of: new Map([[1, new Set([2n])]]), none: undefined };
    expect(v8.decode("k", v8.encode("k", value))).toEqual(value);
  });

  it("may reuse its output memory as soon as it has returned", () => {
    const memory = Buffer.from("first");
    const raw = createValueCodec(
      () => memory,
      (stored) => stored.toString(),
    );
    const stored = raw.encode("k", 0);
    memory.write("later");
    expect(raw.decode("k", stored)).toBe("first");
  });

  it("may write to the buffer it is given: the next caller has another", () => {
    const greedy = createValueCodec(String, (stored) => {
      const text = stored.toString();
      stored.fill(0);
      return text;
    });
    const stored = greedy.encode("k", "value");
    expect([greedy.decode("k", stored), greedy.decode("k", stored)]).toEqual(["value", "value"]);
  });

  it("stores a string as UTF-8, and a view's own bytes only", () => {
    const whole = new Uint8Array([1, 2, 3, 4]);
    expect(createValueCodec(() => "ä€", String).encode("k", 0)).toEqual(Buffer.from("ä€", "utf8"));
    expect(createValueCodec(() => whole.subarray(1, 3), String).encode("k", 0)).toEqual(Buffer.from([2, 3]));
  });

  it.each([undefined, null, 1, {}, [1], new ArrayBuffer(1)])("is an error when it makes %s", (made) => {
    const codec = createValueCodec(() => made as string, String);
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
        const codec = createValueCodec(rejects, rejects);
        const act = () => (name === "serializer" ? codec.encode("k", 0) : codec.decode("k", Buffer.from("0")));
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
    const codec = createValueCodec(fails, fails);
    expect(thrownBy(() => codec.encode("k", 0))).toMatchObject({ name: "SerializationError", key: "k", cause });
    expect(thrownBy(() => codec.decode("k", Buffer.from("")))).toMatchObject({ name: "SerializationError", cause });
  });
});

describe("frozen values", () => {
  it("are one object for all callers, parsed once, and frozen at every level", () => {
    const parse = vi.spyOn(JSON, "parse");
    try {
      const stored = json.encode("k", { list: [{ deep: [1] }], text: "t" });
      const [first, ...others] = [1, 2, 3, 4].map(() => frozen.decode("k", stored) as { list: { deep: number[] }[] });
      for (const other of others) expect(other).toBe(first);
      expect(parse).toHaveBeenCalledTimes(1);
      expect(first).toEqual({ list: [{ deep: [1] }], text: "t" });
      expect(() => first!.list.push({ deep: [] })).toThrow(TypeError);
      expect(() => first!.list[0]!.deep.push(2)).toThrow(TypeError);
      expect(() => Object.assign(first!, { more: 1 })).toThrow(TypeError);
    } finally {
      parse.mockRestore();
    }
  });

  it("may be deeper than the stack", () => {
    const depth = 50_000;
    const stored = Buffer.from("[".repeat(depth) + "]".repeat(depth));
    let inner = frozen.decode("k", stored) as unknown[];
    while (inner.length > 0) inner = inner[0] as unknown[];
    expect(Object.isFrozen(inner)).toBe(true);
  });

  it("may hold themselves, where a deserializer makes such", () => {
    const codec = createValueCodec(serialize, deserialize, { freezes: true });
    const value: { self?: unknown } = {};
    value.self = value;
    const stored = codec.encode("k", value);
    expect(codec.decode("k", stored)).toBe(codec.decode("k", stored));
  });

  it.each([
    ["a Buffer", Buffer.from("x")],
    ["a typed array", new Uint8Array([1])],
    ["a Map", new Map([[1, 2]])],
    ["a Set", new Set([1])],
    ["a Date", new Date(5)],
    ["something of that inside", { list: [{ at: new Date(5) }] }],
  ])("are one for each caller with %s, which cannot be frozen", (_name, value) => {
    const codec = createValueCodec(serialize, deserialize, { freezes: true });
    const stored = codec.encode("k", value);
    const taken = [1, 2, 3].map(() => codec.decode("k", stored));
    expect(new Set(taken).size).toBe(3);
    for (const one of taken) expect(one).toEqual(value);
    expect(Object.isFrozen(taken[2])).toBe(false);
  });

  it("are one for each caller with a getter or an object of a class, which may hide anything", () => {
    class Hiding {
      #hidden = 0;
      next() {
        return ++this.#hidden;
      }
    }
    for (const make of [
      () => new Hiding(),
      () => ({
        get now() {
          return {};
        },
      }),
      () => ({ call: () => 1 }),
    ]) {
      const codec = createValueCodec(() => "x", make, { freezes: true });
      const stored = codec.encode("k", 0);
      expect(codec.decode("k", stored)).not.toBe(codec.decode("k", stored));
    }
  });
});
