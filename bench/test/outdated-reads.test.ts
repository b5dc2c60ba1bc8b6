import assert from "node:assert/strict";
import { test } from "node:test";
import { findOutdatedReads } from "../scenarios/outdated-reads.js";

const invalidates = [
  { startedAtMs: 100, endedAtMs: 110 },
  // Called earlier than the one that resolves before it.
  { startedAtMs: 95, endedAtMs: 130 },
];

function judge(readBeganAtMs: number, valueBegunAtMs: number): { count: number; longestMs: number } {
  const reads = { readBeganAtMs: Float64Array.of(readBeganAtMs), valueBegunAtMs: Float64Array.of(valueBegunAtMs) };
  return findOutdatedReads([reads], invalidates);
}

function outdatedAmong(readBeganAtMs: number, valueBegunAtMs: number): number {
  return judge(readBeganAtMs, valueBegunAtMs).count;
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

test("an outdated read is as late as the first invalidate that it has missed", () => {
  assert.equal(judge(150, 90).longestMs, 40);
  // Newer than the call at 95, so the one that it missed resolved at 110.
  assert.equal(judge(150, 97).longestMs, 40);
  assert.equal(judge(150, 120).longestMs, 0);
});
