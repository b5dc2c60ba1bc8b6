import fc from "fast-check";

/**
 * How much is drawn, and from which seed; a failure prints both. `FUZZ_RUNS=100` draws a hundred times as much, and
 * `FUZZ_SEED` draws something else.
 */
export function draws(numRuns: number): { seed: number; numRuns: number } {
  const { FUZZ_SEED = "1", FUZZ_RUNS = "1" } = process.env;
  return { seed: Number(FUZZ_SEED), numRuns: numRuns * Number(FUZZ_RUNS) };
}

export const bytes = fc.uint8Array({ maxLength: 64 }).map((array) => Buffer.from(array));

/** What may stand where a number should: text of numbers of all kinds, near misses, anything. */
export const numberLike: fc.Arbitrary<Buffer> = fc.oneof(
  fc.double().map((number) => Buffer.from(String(number))),
  fc.integer().map((number) => Buffer.from(String(number))),
  fc
    .constantFrom(
      ...[
        "",
        " ",
        "\n",
        ".",
        "-",
        "+",
        "-0",
        "1.",
        ".5",
        "+5",
        " 1 ",
        "1\n",
        "\u00a01",
        "1_000",
        "1,5",
        "1e5",
        "1e400",
      ],
      ...["NaN", "nan", "-nan", "Infinity", "-inf", "inf", "infinity", "0x10", "0x1p40", "0b11", "1\u00002", "9e15"],
      ...["9007199254740993", "0.1e-3", "1.2.3", "9".repeat(400), "null", "[object Object]", "４２"],
    )
    .map((text) => Buffer.from(text)),
  bytes,
);

/** These bytes with one thing done to them: a byte changed, put in or taken away, the end cut off or doubled. */
export function mutated(valid: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const change = fc.record({
    kind: fc.constantFrom("change", "insert", "remove", "cut", "double"),
    at: fc.nat(10_000),
    byte: fc.oneof(fc.constantFrom(10, 32, 48, 57, 58, 0, 255), fc.nat(255)),
  });
  return fc.tuple(valid, fc.array(change, { minLength: 1, maxLength: 4 })).map(([whole, changes]) =>
    changes.reduce((now, { kind, at, byte }) => {
      const place = at % (now.length + 1);
      const [before, after] = [now.subarray(0, place), now.subarray(place)];
      if (kind === "change") return Buffer.concat([before, Buffer.from([byte]), after.subarray(1)]);
      if (kind === "insert") return Buffer.concat([before, Buffer.from([byte]), after]);
      if (kind === "remove") return Buffer.concat([before, after.subarray(1)]);
      return kind === "cut" ? before : Buffer.concat([now, after]);
    }, whole),
  );
}
