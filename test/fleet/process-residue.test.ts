import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { describeRedis } from "../support/describe-redis.js";
import { Fleet, until } from "../support/fleet.js";
import type { RecomputePlan } from "../support/service-messages.js";
import type { Service } from "../support/service.js";

const testTimeoutMs = 60_000;

describeRedis("what a process leaves behind", (redisUrl) => {
  let fleet: Fleet;
  beforeAll(() => {
    fleet = new Fleet(redisUrl);
  });
  afterEach(() => fleet.checkAndClear());
  afterAll(() => fleet.close());

  /** Redis' own lines about the fleet's connections. */
  async function clientList(): Promise<string[]> {
    const list = String(await fleet.redis.client("LIST"));
    return list.split("\n").filter((line) => line.includes(` name=${fleet.connectionName} `));
  }

  async function connections(): Promise<number> {
    return (await clientList()).length;
  }

  /** How long none of the fleet's connections has sent anything. */
  async function idleSeconds(): Promise<number> {
    return Math.min(...(await clientList()).map((line) => Number(/ idle=(\d+) /.exec(line)?.[1])));
  }

  async function subscriptions(): Promise<number> {
    return (await fleet.redis.pubsub("CHANNELS", `cachefence:${fleet.prefix}*`)).length;
  }

  /** Cold keys for all services at once: each is rebuilt by one, waited for by the others, and invalidated. */
  async function useFor(services: readonly Service[], round: string): Promise<void> {
    const keys = Array.from({ length: 40 }, (_, index) => `${round}-${index}`);
    const works: RecomputePlan = { kind: "returns", value: "value", afterMs: 5 };
    const fails: RecomputePlan = { kind: "throws", message: "down", afterMs: 5 };
    await Promise.all(
      services.flatMap((service) =>
        keys.map((key, index) => service.getOrSet(key, index % 2 === 0 ? works : fails, 5)),
      ),
    );
    await services[0]!.ask("invalidate", { keys });
  }

  /** Each service has waited for another, so each has a subscriber. */
  async function waitOnce(services: readonly Service[]): Promise<void> {
    for (const [index, service] of services.entries()) {
      const key = `wait-${index}`;
      const held = services[(index + 1) % services.length]!.getOrSet(key);
      const recompute = await fleet.source.next();
      const waited = service.getOrSet(key);
      await fleet.untilWaiting(key, 1);
      recompute.succeed("value");
      await Promise.all([held, waited]);
    }
  }

  it(
    "is the same number of connections, subscriptions, listeners and timers after much use as after little",
    async () => {
      // A lease so short that a renewal left behind is seen below.
      const services = await fleet.open(3, { lockTimeout: 3 });
      await waitOnce(services);
      await useFor(services, "warm-up");
      // The caller's own client, and one mailbox.
      expect(await connections()).toBe(6);
      await until(async () => (await subscriptions()) === 0);
      const before = await Promise.all(services.map((service) => service.ask("residue", {})));
      for (let round = 0; round < 10; round++) await useFor(services, `round-${round}`);

      expect(await connections()).toBe(6);
      await until(async () => (await subscriptions()) === 0);
      const after = await Promise.all(services.map((service) => service.ask("residue", {})));
      expect(after.map(({ listeners }) => listeners)).toEqual(before.map(({ listeners }) => listeners));
      // Nothing renews, polls or samples any more.
      await until(async () => (await idleSeconds()) >= 2);
      // The last sweeps of the deadlines end by themselves.
      await until(async () => {
        const now = await Promise.all(services.map((service) => service.ask("residue", {})));
        return now.every(({ timers }) => timers === 0);
      });
    },
    testTimeoutMs,
  );

  it.each([
    ["as a holder", 0],
    ["as a waiter", 1],
  ])(
    "ends by itself, without close(), once its own client is closed: %s",
    async (_, role) => {
      const services = await fleet.open(2);
      const calls = [services[0]!.getOrSet("key")];
      const recompute = await fleet.source.next();
      calls.push(services[1]!.getOrSet("key"));
      await fleet.untilWaiting("key", 1);
      recompute.succeed("value");
      expect(await Promise.all(calls)).toEqual([[{ value: "value" }], [{ value: "value" }]]);
      // Each has its client and its mailbox.
      expect(await connections()).toBe(4);
      await services[role]!.ask("retire", {});

      expect(await services[role]!.ended).toBe(0);
      await until(async () => (await connections()) === 2);
    },
    testTimeoutMs,
  );
});
