import assert from "node:assert/strict";
import { test } from "node:test";
import { fillSlots } from "../documents/fill-slots.js";
import { markdownTable } from "../documents/markdown-table.js";

const page = "before\n\n<!-- crash -->\n\nold\n\n<!-- /crash -->\n\nafter\n";

test("fills a slot again and again, and leaves the prose", () => {
  const once = fillSlots(page, new Map([["crash", "new"]]));
  assert.equal(once, "before\n\n<!-- crash -->\n\nnew\n\n<!-- /crash -->\n\nafter\n");
  assert.equal(fillSlots(once, new Map([["crash", "new"]])), once);
});

test("says which content has no slot and which slot has no content", () => {
  assert.throws(() => fillSlots(page, new Map([["storm", "new"]])), /crash/);
  assert.throws(() => fillSlots("no slot\n", new Map([["storm", "new"]])), /storm/);
});

test("pads a table's cells and puts numbers to the right", () => {
  assert.equal(
    markdownTable({ columns: ["contender", "n"], rows: [["naive", "1,000"]] }),
    "| contender |     n |\n| --------- | ----: |\n| naive     | 1,000 |",
  );
});
