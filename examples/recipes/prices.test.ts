import { CacheFence } from "cachefence";
import RedisMock from "ioredis-mock";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

// prices.ts, your own code: it is handed its cache.
function createPrices(cache: CacheFence, load: (id: number) => Promise<number>) {
  return { get: (id: number) => cache.getOrSet(`price:${id}`, 60, () => load(id), { staleFor: 300 }) };
}

let run = 0;
let cache: CacheFence;
beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date", "performance"] }); // the clocks only: timers that stand still would hold the mock
  const redis = new RedisMock({ host: `prices ${++run}` }); // clients of one host share their data
  cache = new CacheFence(redis, { beta: 0 }); // no early refresh by lot
});
afterEach(() => vi.useRealTimers());

it("asks once a minute", async () => {
  const load = vi.fn(async (id: number) => id * 10);
  const prices = createPrices(cache, load);
  expect(await Promise.all([prices.get(7), prices.get(7)])).toEqual([70, 70]);
  expect(load).toHaveBeenCalledTimes(1);

  vi.advanceTimersByTime(61_000);
  expect(await prices.get(7)).toBe(70);
  expect(load).toHaveBeenCalledTimes(2);
});

it("serves the last price while the source fails", async () => {
  const load = vi.fn(async () => 70);
  const prices = createPrices(cache, load);
  await prices.get(7);

  load.mockRejectedValue(new Error("down"));
  vi.advanceTimersByTime(61_000);
  expect(await prices.get(7)).toBe(70);
});
