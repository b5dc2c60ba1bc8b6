import assert from "node:assert/strict";
import { test } from "node:test";
import type { PausedRead } from "../jobs/paused-reads.js";
import { tallyReads } from "../scenarios/read-tally.js";

const read = (startedAtMs: number, endedAtMs: number, recomputed = false): PausedRead => ({
  startedAtMs,
  endedAtMs,
  isFirst: false,
  ...(recomputed && { recompute: { startedAtMs, endedAtMs } }),
});
const coldStart: PausedRead = { ...read(0, 50, true), isFirst: true };

test("a worker's first read counts for what it stored and not as a read", () => {
  const tally = tallyReads([coldStart, read(60, 61)], 100);
  assert.deepEqual([tally.reads, tally.hardMisses, tally.recomputes], [1, 0, 0]);
});

test("a read after the expiry is a hard miss, which waits or recomputes", () => {
  const tally = tallyReads([coldStart, read(150, 200, true), read(160, 201)], 100);
  assert.deepEqual([tally.hardMisses, tally.recomputes, tally.waited], [2, 1, 1]);
});

test("an early refresh is a recompute and no miss", () => {
  const tally = tallyReads([coldStart, read(140, 190, true), read(145, 146)], 100);
  assert.deepEqual([tally.hardMisses, tally.recomputes, tally.waited], [0, 1, 0]);
});

test("only the recompute that began during another one is simultaneous", () => {
  const tally = tallyReads([coldStart, read(150, 200, true), read(170, 220, true), read(330, 380, true)], 100);
  assert.equal(tally.simultaneous, 1);
});
