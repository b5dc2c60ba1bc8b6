import type { Cleanup } from "../support/cleanup.js";
import { connectCounting } from "./counting-client.js";
import { FakeDatabase } from "./fake-database.js";
import { type HerdTimes, runHerd } from "./herd.js";
import type { DemoServer } from "./server-choice.js";
import { createStrategy, type StrategyName } from "./strategies.js";

export interface HerdPlan {
  readonly strategy: StrategyName;
  readonly key: string;
  readonly warmUpKey: string;
  readonly callers: number;
  readonly latencyMs: number;
}

export interface MeasuredHerd extends HerdTimes {
  readonly commandsSent: number;
}

// Long enough for every herd, short enough to be gone soon should the demo be killed before it cleans up.
const TTL_SECONDS = 60;
const WARM_UP_CALLERS = 100;
const WARM_UP_LATENCY_MS = 5;

/**
 * Connects and warms up at once, and returns the measurement to be started. It has a client and a strategy of its own,
 * so that it pays for everything after connecting itself; the warm-up only lets the code be compiled, as it has
 * been in a service that runs for a while.
 */
export async function prepareHerd(
  server: DemoServer,
  plan: HerdPlan,
  cleanup: Cleanup,
  onQuery: () => void,
): Promise<() => Promise<MeasuredHerd>> {
  const open = async (latencyMs: number, counted: () => void) => {
    const { redis, sent } = await connectCounting(server);
    cleanup.defer(() => redis.disconnect());
    const { query } = new FakeDatabase(latencyMs, counted);
    const strategy = createStrategy(plan.strategy, { redis, query, ttlSeconds: TTL_SECONDS });
    const close = async () => {
      await strategy.close();
      redis.disconnect();
    };
    return { strategy, sent, close };
  };

  const warmUp = await open(WARM_UP_LATENCY_MS, () => undefined);
  await runHerd(warmUp.strategy, plan.warmUpKey, WARM_UP_CALLERS);
  await warmUp.close();

  const measured = await open(plan.latencyMs, onQuery);
  return async () => {
    const times = await runHerd(measured.strategy, plan.key, plan.callers);
    const commandsSent = measured.sent.commands;
    await measured.close();
    return { ...times, commandsSent };
  };
}
