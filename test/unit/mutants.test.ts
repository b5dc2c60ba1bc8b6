import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { editText, mutants } from "../mutants/mutants.js";

describe("the list of mechanisms to be taken out", () => {
  it("names each once", () => {
    expect(new Set(mutants.map(({ name }) => name)).size).toBe(mutants.length);
  });

  it.each(mutants)("fits the tree: $name", ({ edits }) => {
    const texts = new Map<string, string>();
    for (const edit of edits) {
      const text = texts.get(edit.file) ?? readFileSync(new URL(`../../${edit.file}`, import.meta.url), "utf8");
      texts.set(edit.file, editText(text, edit));
    }
    for (const [file, text] of texts) {
      expect(text).not.toBe(readFileSync(new URL(`../../${file}`, import.meta.url), "utf8"));
    }
  });

  it("refuses a text that is not there, or twice", () => {
    const edit = { file: "a.ts", find: "x", replace: "y" };
    expect(() => editText("a", edit)).toThrow("Expected exactly once in a.ts: x");
    expect(() => editText("x x", edit)).toThrow("Expected exactly once in a.ts: x");
    expect(editText("a x", edit)).toBe("a y");
  });
});
