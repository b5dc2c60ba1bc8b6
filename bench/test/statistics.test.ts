import assert from "node:assert/strict";
import { test } from "node:test";
import { mostAtOnce, mostWithin, quantile } from "../harness/statistics.js";

test("counts intervals that touch as one after the other", () => {
  const intervals = [
    { startedAtMs: 0, endedAtMs: 10 },
    { startedAtMs: 10, endedAtMs: 20 },
    { startedAtMs: 5, endedAtMs: 15 },
  ];
  assert.equal(mostAtOnce(intervals), 2);
  assert.equal(mostAtOnce([]), 0);
});

test("finds the fullest window, whose ends are not both in it", () => {
  assert.equal(mostWithin([0, 40, 90, 100, 500], 100), 3);
  assert.equal(mostWithin([500, 0, 100], 100), 1);
  assert.equal(mostWithin([], 100), 0);
});

test("interpolates between two values", () => {
  assert.equal(quantile([4, 1, 3, 2], 0.5), 2.5);
  assert.equal(quantile([7], 0.99), 7);
});
