import { setTimeout as sleep } from "node:timers/promises";
import { CacheFence } from "cachefence";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { describeRedis } from "../support/describe-redis.js";
import { Fleet, until } from "../support/fleet.js";
import { type LoggedFence, staleReads } from "../support/history.js";
import type { Service } from "../support/service.js";
import type { FencePlan } from "../support/service-messages.js";
import { startTcpProxy } from "../support/tcp-proxy.js";

const testTimeoutMs = 60_000;

// The longest there is: no copy goes in a test because its lease has ended.
const lasting = { memory: "map", memoryLease: 60 } as const;
// How much later than it should a machine with something else to do may notice the end of a lease.
const slackMs = 1_500;

describeRedis("the memory of a fleet", (redisUrl) => {
  let fleet: Fleet;
  let client: Redis;
  let cache: CacheFence;
  beforeAll(() => {
    fleet = new Fleet(redisUrl);
  });
  beforeEach(() => {
    client = new Redis(redisUrl);
  });
  const frozenOnes: Service[] = [];
  afterEach(async () => {
    // What a failed test has left frozen would hold up the next.
    for (const service of frozenOnes.splice(0)) service.signal("SIGCONT");
    client.disconnect();
    await fleet.checkAndClear();
  });
  afterAll(() => fleet.close());

  /** A cache of this process that has no copies, in the fleet. */
  const openFencer = () => (cache = new CacheFence(client, { namespace: fleet.prefix, redisTimeout: 20 }));

  /** Lets each of the services have a copy of the key, which one of them has rebuilt with this value. */
  async function copied(services: readonly Service[], value: unknown, key = "key", tags: string[] = []): Promise<void> {
    const made = services[0]!.ask("getOrSetEntry", { key, times: 1, tags });
    (await fleet.source.next()).succeed(value);
    await made;
    for (const service of services) {
      // A process opens its mailbox with its first need of it, and has copies from then on.
      await until(async () => {
        const [read] = await service.ask("getOrSetEntry", { key, times: 1, tags });
        return read?.source === "memory";
      });
    }
    expect((await copiesOf(key)).length).toBe(services.length);
  }

  /** The members that hold a copy of the key. */
  async function copiesOf(key: string): Promise<string[]> {
    const members = await fleet.redis.zrange(`${fleet.prefix}${key}:audience`, 0, -1);
    return members.filter((member) => member.startsWith("c")).map((member) => member.slice(1, 17));
  }

  async function readNew(service: Service, value: unknown): Promise<void> {
    const [read] = await service.ask("getOrSetEntry", { key: "key", times: 1 });
    expect(read?.value).toBe(value);
  }

  function freeze(service: Service): void {
    frozenOnes.push(service);
    service.signal("SIGSTOP");
  }

  const timed = async (fence: Promise<void>): Promise<number> => {
    const beganNs = process.hrtime.bigint();
    await fence;
    return Number(process.hrtime.bigint() - beganNs) / 1e6;
  };

  it(
    "answers a hot key without a command, in each of its processes",
    async () => {
      const services = await fleet.open(3, lasting);
      await copied(services, "hot");
      const monitor = await client.monitor();
      const seen: string[] = [];
      monitor.on("monitor", (_, args: string[]) => void seen.push(args.join(" ")));
      for (const service of services) {
        const read = await service.ask("getOrSetEntry", { key: "key", times: 500 });
        expect(new Set(read.map(({ value, source }) => `${String(value)} from ${source}`))).toEqual(
          new Set(["hot from memory"]),
        );
      }
      await fleet.redis.echo(`${fleet.prefix}end`);
      await until(async () => seen.includes(`echo ${fleet.prefix}end`));
      monitor.disconnect();
      expect(seen.filter((command) => command.includes(fleet.prefix))).toEqual([`echo ${fleet.prefix}end`]);
      expect((await services[2]!.ask("stats", {})).memoryHits).toBeGreaterThanOrEqual(500);
      expect((await fleet.counts()).starts).toBe(1);
    },
    testTimeoutMs,
  );

  describe.each([
    ["an invalidate", { keys: ["key"] }, "rebuilt"],
    ["a set", { key: "key", ttl: 60, value: "set" }, "set"],
    ["an invalidateTags", { tags: ["group"] }, "rebuilt"],
  ] as const)("after %s in another process", (_, fence: FencePlan, expected) => {
    it.each([
      ["ioredis 5", 0],
      ["ioredis 6", 1],
    ])(
      "no process serves its copy of before, told by a fencer with %s",
      async (__, fencerIndex) => {
        const services = await fleet.open(4, lasting);
        const fencer = services[fencerIndex]!;
        const readers = services.filter((service) => service !== fencer);
        const tags = "tags" in fence ? ["group"] : [];
        await copied(readers, "old", "key", tags);
        await fencer.ask("fence", { fence });
        const reads = readers.map((reader) => reader.ask("getOrSetEntry", { key: "key", times: 20, tags }));
        if (expected === "rebuilt") (await fleet.source.next()).succeed("rebuilt");
        const values = (await Promise.all(reads)).flat().map(({ value }) => value);
        expect(values).toEqual(Array.from({ length: 60 }, () => expected));
        // Nobody has waited a lease out: all have confirmed.
        expect((await fencer.ask("stats", {})).fenceWaits).toBe(0);
      },
      testTimeoutMs,
    );
  });

  it(
    "makes a fence wait for a frozen process until its lease is over and no longer, and counts that",
    async () => {
      const [frozen, alive] = await fleet.open(2, { memory: "map", memoryLease: 5 });
      openFencer();
      await copied([frozen!, alive!], "old");
      freeze(frozen!);
      expect(await timed(cache.set("key", 60, "new"))).toBeLessThan(5_000 + slackMs);
      expect(cache.stats().fenceWaits).toBe(1);
      // Whatever it finds on waking, it is not its copy.
      frozen!.signal("SIGCONT");
      await readNew(frozen!, "new");
      await readNew(alive!, "new");
    },
    testTimeoutMs,
  );

  it(
    "makes a fence wait for a frozen process: it confirms when it goes on",
    async () => {
      const [frozen] = await fleet.open(1, lasting);
      openFencer();
      await copied([frozen!], "old");
      freeze(frozen!);
      const fence = cache.set("key", 60, "new").then(() => process.hrtime.bigint());
      await until(async () => (await fleet.stored("key")) === "new");
      await sleep(200);
      const continuedNs = process.hrtime.bigint();
      frozen!.signal("SIGCONT");
      expect((await fence) > continuedNs).toBe(true);
      expect(cache.stats().fenceWaits).toBe(0);
      await readNew(frozen!, "new");
    },
    testTimeoutMs,
  );

  it(
    "costs one fence at most a lease when a process with a copy is killed, and the next one nothing",
    async () => {
      const [killed, alive] = await fleet.open(2, { memory: "map", memoryLease: 5 });
      openFencer();
      await copied([killed!, alive!], "old");
      await killed!.kill();
      expect(await timed(cache.set("key", 60, "new"))).toBeLessThan(5_000 + slackMs);
      expect(cache.stats().fenceWaits).toBe(1);
      await cache.set("key", 60, "newer");
      expect(cache.stats().fenceWaits).toBe(1);
      await readNew(alive!, "newer");
    },
    testTimeoutMs,
  );

  it(
    "makes two fences at once wait for the same copy",
    async () => {
      const [frozen, second] = await fleet.open(2, lasting);
      openFencer();
      await copied([frozen!], "old");
      const [member] = await copiesOf("key");
      const heard: string[] = [];
      const ear = new Redis(redisUrl);
      ear.on("message", (_, message: string) => heard.push(message.split(" ")[2]!));
      await ear.subscribe(`cachefence:${member!}`);
      freeze(frozen!);
      const first = cache.invalidate("key").then(() => process.hrtime.bigint());
      await until(async () => heard.length > 0);
      const other = second!.ask("fence", { fence: { keys: ["key"] } });
      await until(async () => new Set(heard).size === 2);
      await sleep(200);
      const continuedNs = process.hrtime.bigint();
      frozen!.signal("SIGCONT");
      expect((await first) > continuedNs).toBe(true);
      expect(BigInt(await other) > continuedNs).toBe(true);
      expect(cache.stats().fenceWaits + (await second!.ask("stats", {})).fenceWaits).toBe(0);
      ear.disconnect();
    },
    testTimeoutMs,
  );

  it(
    "has no read older than a fence that had resolved, of processes that are stopped and cut off now and then",
    async () => {
      const proxy = await startTcpProxy(Number(new URL(redisUrl).port));
      const proxied = new Fleet(proxy.url);
      proxied.redis.on("error", () => undefined); // It is cut off with the others.
      try {
        const lease = { memory: "map", memoryLease: 0.15 } as const;
        const services = await proxied.open(4, lease);
        const readers = services.slice(0, 3);
        const remote = services[3]!;
        const near = new CacheFence(client, { namespace: proxied.prefix, redisTimeout: 20 });
        const raise: Record<"near" | "remote", (plan: FencePlan) => Promise<bigint>> = {
          near: async (plan) => {
            if ("keys" in plan) await near.invalidate(plan.keys);
            else if ("tags" in plan) await near.invalidateTags(plan.tags);
            else await near.set(plan.key, plan.ttl, plan.value);
            return process.hrtime.bigint();
          },
          remote: async (plan) => BigInt(await remote.ask("fence", { fence: plan })),
        };
        const keys = Array.from({ length: 12 }, (_, index) => `key${index}`);
        // The last of each six keys share a tag with their neighbour.
        const tags = keys.map((_, index) => (index % 6 >= 4 ? [`tag${Math.floor(index / 6)}`] : []));
        const source = proxied.prefix + "source:";
        for (const key of keys) await client.set(source + key, 0);
        const fences: LoggedFence[][] = keys.map(() => []);
        const logs = readers.map((reader) =>
          reader.ask("readUntilStopped", { plan: { keys, readers: 12, source, tags } }),
        );

        let isOver = false;
        let raised = 0;
        // The fences of a key come from one process, in their order.
        const fencing = (["near", "remote"] as const).map(async (whose, half) => {
          for (let turn = 0; !isOver; turn++) {
            const index = half * 6 + (turn % 5);
            const isOfTag = index % 6 === 4;
            const indices = isOfTag ? [index, index + 1] : [index];
            const versions = await Promise.all(indices.map((one) => client.incr(source + keys[one]!)));
            const key = keys[index]!;
            const plan: FencePlan = isOfTag
              ? { tags: tags[index]! }
              : index % 2 === 0
                ? { keys: [key] }
                : { key, ttl: 60, value: versions[0]! };
            // One whose connection was cut may not have happened: it is raised again.
            for (;;) {
              try {
                const resolvedNs = await raise[whose](plan);
                indices.forEach((one, at) => fences[one]!.push({ version: versions[at]!, resolvedNs }));
                raised++;
                break;
              } catch {
                await sleep(10);
              }
            }
            await sleep(80 + Math.random() * 120);
          }
        });
        const mailboxes = async () => {
          const list = (await client.call("CLIENT", "LIST", "TYPE", "pubsub")) as string;
          const lines = list.split("\n").filter((line) => line.includes(proxied.prefix));
          return lines.map((line) => /^id=(\d+)/.exec(line)![1]!);
        };
        for (let round = 0; round < 12; round++) {
          const reader = readers[round % readers.length]!;
          await sleep(500);
          reader.signal("SIGSTOP");
          await sleep(round % 2 === 0 ? 60 : 400);
          reader.signal("SIGCONT");
          await sleep(300);
          for (const id of await mailboxes()) await client.client("KILL", "ID", id);
          await sleep(300);
          if (round % 3 === 0) proxy.cut();
          if (round % 3 === 1) proxy.delayReplies(20);
          if (round % 3 === 2) proxy.delayReplies(0);
        }
        isOver = true;
        proxy.heal();
        await Promise.all(fencing);
        await Promise.all(readers.map((reader) => reader.ask("stopReading", {})));
        const reads = (await Promise.all(logs)).flat();
        const stats = await Promise.all(readers.map((reader) => reader.ask("stats", {})));
        const memoryHits = stats.reduce((sum, one) => sum + one.memoryHits, 0);

        expect(staleReads(reads, fences)).toEqual([]);
        expect(reads.length).toBeGreaterThanOrEqual(20_000);
        expect(memoryHits).toBeGreaterThanOrEqual(reads.length / 3);
        expect(raised).toBeGreaterThan(100);
        // Of the processes that were stopped, some had a copy.
        expect(near.stats().fenceWaits + (await remote.ask("stats", {})).fenceWaits).toBeGreaterThan(0);
        await Promise.all(readers.map((reader) => reader.ask("idle", {})));
        await near.close();
        await proxied.checkAndClear();
      } finally {
        await proxied.close();
        await proxy.stop();
      }
    },
    testTimeoutMs,
  );
});
