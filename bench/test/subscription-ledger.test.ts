import assert from "node:assert/strict";
import { test } from "node:test";
import { SubscriptionLedger } from "../harness/subscription-ledger.js";

test("counts a message for each listener of the channel at the moment of the publish", () => {
  const ledger = new SubscriptionLedger();
  ledger.follow("publish", ["a", "nobody listens"], "lua");
  ledger.follow("subscribe", ["a", "b"], "1");
  ledger.follow("subscribe", ["a"], "2");
  ledger.follow("publish", ["a", "two listen"], "lua");
  ledger.follow("unsubscribe", ["a"], "1");
  ledger.follow("publish", ["a", "one listens"], "lua");
  ledger.follow("publish", ["b", "one listens"], "3");
  assert.equal(ledger.pushed, 4);
});

test("counts those who listened before the first command that it saw, until they leave", () => {
  const ledger = new SubscriptionLedger();
  ledger.begin("a", 1);
  ledger.follow("publish", ["a", "one listens"], "lua");
  ledger.follow("subscribe", ["a"], "2");
  ledger.follow("publish", ["a", "two listen"], "lua");
  ledger.follow("unsubscribe", ["a"], "1");
  ledger.follow("publish", ["a", "one listens"], "lua");
  assert.equal(ledger.pushed, 4);
});
