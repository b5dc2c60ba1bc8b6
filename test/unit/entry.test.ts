import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Entry } from "../../src/protocol/entry.js";
import { decodeEntry as decode, isSameEntry } from "../../src/protocol/entry.js";

const SEED = { seed: 42, numRuns: 1_000 };
const entries: fc.Arbitrary<Entry<Buffer>> = fc.record({
  value: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  deltaSeconds: fc.double({ min: 0, max: 1e9, noNaN: true }),
  expirySeconds: fc.double({ min: 0, max: 1e12, noNaN: true }),
  tags: fc.constantFrom("", "a-1-2", "a-1-2,b-3-4"),
});

const decodeEntry = (fields: readonly (Buffer | null)[]) => decode(fields, "k", (_, bytes) => bytes);
const encodeEntry = ({ value, deltaSeconds, expirySeconds, tags }: Entry<Buffer>) => [
  ...["v", value, "delta", String(deltaSeconds), "expiry", String(expirySeconds)],
  ...(tags === "" ? [] : ["tags", tags]),
];

/** What HMGET of `v`, `delta` and `expiry` answers after HSET of these words. */
function reply(words: readonly (string | Buffer)[]): (Buffer | null)[] {
  const fields = new Map<string, Buffer>();
  for (let at = 0; at < words.length; at += 2) fields.set(String(words[at]), Buffer.from(words[at + 1]!));
  return ["v", "delta", "expiry", "tags"].map((field) => fields.get(field) ?? null);
}

const numbers = (delta: string | null, expiry: string | null) =>
  [Buffer.from("1"), delta, expiry].map((field) => (typeof field === "string" ? Buffer.from(field) : field));

describe("an entry", () => {
  it("comes back from its fields exactly as it went in", () => {
    fc.assert(
      fc.property(entries, (entry) => {
        const back = decodeEntry(reply(encodeEntry(entry)));
        if (back === undefined || back === "corrupt") throw new Error("not read back");
        expect(back.value.equals(entry.value)).toBe(true);
        expect(back.deltaSeconds).toBe(entry.deltaSeconds + 0);
        expect(back.expirySeconds).toBe(entry.expirySeconds + 0);
        expect(back.tags).toBe(entry.tags);
        expect(isSameEntry(back, entry)).toBe(true);
      }),
      SEED,
    );
  });

  it("reads the numbers that Python writes", () => {
    for (const [text, seconds] of [
      ["1e-05", 1e-5],
      ["0.0", 0],
      ["1700000060.1234567", 1700000060.1234567],
      ["2", 2],
    ] as const) {
      expect(decodeEntry(numbers(text, "1.0"))).toMatchObject({ deltaSeconds: seconds, expirySeconds: 1 });
      expect(decodeEntry(numbers("1.0", text))).toMatchObject({ deltaSeconds: 1, expirySeconds: seconds });
    }
  });

  it("is corrupt where a number is no decimal text: blanks are no 0", () => {
    for (const text of [" ", "\n", ".", "0x10", " 1", "+1", "1_0", "1e", "\u00a01"]) {
      expect(decodeEntry(numbers(text, "1.0"))).toBe("corrupt");
      expect(decodeEntry(numbers("1.0", text))).toBe("corrupt");
    }
  });

  it("is not there when the key is missing or the hash has no `v`", () => {
    expect(decodeEntry([null, null, null])).toBeUndefined();
    expect(decodeEntry([])).toBeUndefined();
    expect(decodeEntry([null, Buffer.from("1"), Buffer.from("2")])).toBeUndefined();
  });

  it.each([
    ["no delta", null, "2"],
    ["no expiry", "1", null],
    ["an empty delta", "", "2"],
    ["an empty expiry", "1", ""],
    ["words for numbers", "soon", "later"],
    ["a negative delta", "-1", "2"],
    ["a negative expiry", "1", "-2"],
    ["an endless expiry", "1", "inf"],
    ["JavaScript's endless expiry", "1", "Infinity"],
    ["not a number", "nan", "2"],
  ])("is corrupt with %s", (_name, delta, expiry) => {
    expect(decodeEntry(numbers(delta, expiry))).toBe("corrupt");
  });

  it("may hold no bytes at all", () => {
    const entry = { value: Buffer.alloc(0), deltaSeconds: 0, expirySeconds: 1, tags: "" };
    expect(decodeEntry(reply(encodeEntry(entry)))).toEqual(entry);
  });

  it("is another one as soon as its delta or expiry differ", () => {
    const entry = { value: Buffer.from("1"), deltaSeconds: 1, expirySeconds: 2, tags: "" };
    expect(isSameEntry(entry, { ...entry })).toBe(true);
    expect(isSameEntry(entry, { ...entry, deltaSeconds: 1.5 })).toBe(false);
    expect(isSameEntry(entry, { ...entry, expirySeconds: 3 })).toBe(false);
  });
});
