import { CacheFence, type CacheFenceOptions } from "cachefence";
import RedisMock from "ioredis-mock";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

// How users test their own code: with vitest's fake timers, and ioredis-mock in place of a server.
let port = 40_000;

beforeEach(() => {
  port++;
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function open(options: CacheFenceOptions = {}): CacheFence {
  return new CacheFence(new RedisMock({ host: "cachefence-fake-timers", port }), { beta: 0, ...options });
}

/** The value, however many timers have to fire for it. */
async function whileTimersRun<T>(value: Promise<T>): Promise<T> {
  const state = { isThere: false };
  const end = () => (state.isThere = true);
  value.then(end, end);
  while (!state.isThere) await vi.advanceTimersByTimeAsync(10);
  return value;
}

it("moves the time: a stale value is served and refreshed in the background", async () => {
  const cache = open({ staleFor: 60, earlyRefresh: "background" });
  let recomputes = 0;
  const read = () => whileTimersRun(cache.getOrSet("key", 60, () => ++recomputes));
  expect(await read()).toBe(1);
  await vi.advanceTimersByTimeAsync(70_000);
  expect(await read()).toBe(1);
  await whileTimersRun(cache.idle());
  expect(await read()).toBe(2);
});

it("moves the time: a recompute runs into its timeout", async () => {
  const cache = open({ recomputeTimeout: 5 });
  const call = cache.getOrSet("key", 60, () => new Promise(() => undefined));
  await expect(whileTimersRun(call)).rejects.toMatchObject({ name: "RecomputeTimeoutError" });
});
