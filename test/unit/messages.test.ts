import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { confirmed, fenced, freed, parseMessage, stored } from "../../src/protocol/messages.js";
import { firstToken, holderOf, partOf, takenToken } from "../../src/protocol/token.js";

interface Vector {
  readonly name: string;
  readonly base64: string;
  readonly message: object | null;
}
const read = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), "utf8"));

describe("a message", () => {
  it.each(read("messages") as Vector[])("is read as docs/protocol.md has it: $name", ({ base64, message }) => {
    const parsed = parseMessage(Buffer.from(base64, "base64"));
    const shown = JSON.parse(JSON.stringify(parsed ?? null, (_, value: unknown) => value)) as object | null;
    const told = (shown as { told?: { value?: { data: number[] } } } | null)?.told;
    if (told?.value !== undefined) Object.assign(told, { value: Buffer.from(told.value.data).toString("base64") });
    expect(shown).toEqual(message);
  });

  it("comes back as it was sent, whatever the key", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", minLength: 1 }), (key) => {
        expect(parseMessage(Buffer.from(freed(key)))).toEqual({ kind: "freed", key });
        expect(parseMessage(Buffer.from(stored(key)))).toEqual({ kind: "stored", key, told: undefined });
        const member = "0123456789abcdef";
        expect(parseMessage(Buffer.from(fenced(key, "f00", member)))).toEqual({
          kind: "fenced",
          key,
          fence: "f00",
          member,
        });
        expect(parseMessage(Buffer.from(confirmed("f00", member)))).toEqual({
          kind: "confirmed",
          fence: "f00",
          member,
        });
      }),
      { seed: 1 },
    );
  });

  it("that is garbled is none: nothing that anybody may publish throws", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        parseMessage(Buffer.from(bytes));
      }),
      { seed: 2, numRuns: 2_000 },
    );
    const whole = Buffer.from(fenced("key", "f00", "0123456789abcdef"));
    for (let cut = 0; cut < whole.length; cut++) expect(parseMessage(whole.subarray(0, cut))).toBeUndefined();
  });
});

describe("a message with a value", () => {
  it.each(["", "\t", ".", "0x10", "+1", "1e", "-1", "inf", "Infinity", "nan"])(
    "is none where a number is no decimal text: %j",
    (text) => {
      const told = (delta: string, expiry: string) =>
        parseMessage(Buffer.from(`stored 1 cachefence:L0123456789abcdef-0 ${delta} ${expiry} 0\nk1`));
      expect(told("1e-05", "2.5")).toMatchObject({ told: { deltaSeconds: 1e-5, expirySeconds: 2.5 } });
      expect(told(text, "1")).toBeUndefined();
      expect(told("1", text)).toBeUndefined();
    },
  );
});

describe("a message of more than a mebibyte", () => {
  it("is none, whatever it says: its words could be longer than text may be", () => {
    const key = "k".repeat(1_048_576 - Buffer.byteLength(freed("")) - 6);
    const largest = Buffer.from(freed(key));
    expect(largest).toHaveLength(1_048_576);
    expect(parseMessage(largest)).toEqual({ kind: "freed", key });
    expect(parseMessage(Buffer.from(freed(`${key}k`)))).toBeUndefined();
  });
});

describe("a token", () => {
  it.each(read("tokens") as { lock: string; holder: string | null }[])(
    "names its holder as docs/protocol.md has it: $lock",
    ({ lock, holder }) => {
      expect(holderOf(lock) ?? null).toBe(holder);
    },
  );

  it("of a taker is that of the holder before it with a part added", () => {
    const part = partOf("0123456789abcdef", true, "000000000001");
    const first = firstToken(part);
    expect(first).toBe("cachefence:L0123456789abcdef-000000000001");
    expect(takenToken(first, partOf("f".repeat(16), false, "000000000002"))).toBe(
      `${first}:N${"f".repeat(16)}-000000000002`,
    );
  });
});
