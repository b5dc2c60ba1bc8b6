import { describe, expect, it } from "vitest";
import { exploreMany } from "./explorer.js";

const SCHEDULES = Number(process.env.EXPLORE_SCHEDULES ?? 20_000);
const FIRST_SEED = Number(process.env.EXPLORE_SEED ?? 1);
const BATCH = 5_000;
const RARE = new Set(["silences", "growths", "afterEviction"]);
const SAYS_HOW_FAR = SCHEDULES > 20_000;

/**
 * One half of the schedules, for two test files that run side by side. `EXPLORE_SCHEDULES`: how many there are in all;
 * `EXPLORE_SEED`: where to begin. Each batch has a seed of its own, which a failure prints.
 */
export function exploreHalf(half: 0 | 1): void {
  describe("whatever the order of commands, replies, messages, timers, deaths and lost connections", () => {
    it(`every promise is kept, ${half === 0 ? "first" : "second"} half`, { timeout: 0 }, async () => {
      const beganMs = performance.now();
      const schedules = SCHEDULES / 2;
      const happened: Record<string, number> = {};
      for (let done = 0; done < schedules;) {
        const batch = Math.min(BATCH, schedules - done);
        const seed = FIRST_SEED + 2 * Math.floor(done / BATCH) + half;
        const counts = await exploreMany({ schedules: batch, seed });
        for (const [name, count] of Object.entries(counts)) happened[name] = (happened[name] ?? 0) + count;
        done += batch;
        const seconds = ((performance.now() - beganMs) / 1000).toFixed(0);
        if (SAYS_HOW_FAR)
          console.log(`half ${half + 1}: ${done} of ${schedules} schedules in ${seconds} s (seed ${seed})`);
      }
      // An explorer that leads to nothing finds nothing.
      for (const [name, count] of Object.entries(happened)) {
        expect(count, name).toBeGreaterThan(schedules / (RARE.has(name) ? 2_000 : 200));
      }
    });
  });
}
