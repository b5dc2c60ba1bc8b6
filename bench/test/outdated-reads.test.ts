import assert from "node:assert/strict";
import { test } from "node:test";
import type { StormOutput } from "../jobs/storm.js";
import { countOutdatedReads } from "../scenarios/outdated-reads.js";

const invalidates = [
  { startedAtMs: 100, endedAtMs: 110 },
  // Called earlier than the one that resolves before it.
  { startedAtMs: 95, endedAtMs: 130 },
];

function outdatedAmong(readBeganAtMs: number, valueBegunAtMs: number): number {
  const output: StormOutput = {
    readBeganAtMs: Float64Array.of(readBeganAtMs),
    valueBegunAtMs: Float64Array.of(valueBegunAtMs),
    recomputes: [],
    invalidates,
    readP99Ms: 0,
    failures: 0,
  };
  return countOutdatedReads([output], invalidates);
}

test("a value from before an invalidate is outdated for a read that began after it", () => {
  assert.equal(outdatedAmong(120, 90), 1);
});

test("no read is held to an invalidate that had not resolved when it began", () => {
  assert.equal(outdatedAmong(105, 90), 0);
  assert.equal(outdatedAmong(110, 90), 0);
});

test("a recompute that began during the invalidate counts as new enough", () => {
  assert.equal(outdatedAmong(120, 100), 0);
});

test("an invalidate that was called earlier and resolved later asks for no less", () => {
  assert.equal(outdatedAmong(140, 97), 1);
});
