import { eventually } from "../support/eventually.js";
import { waitersOf } from "../support/audience.js";
import { CacheFence } from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type Runtime, systemRuntime } from "../../src/runtime.js";
import { deferred } from "../support/deferred.js";
import { describeOwnRedis } from "../support/describe-redis.js";
import { Fleet } from "../support/fleet.js";
import { majors } from "../support/ioredis.js";
import type { RedisServer } from "../support/redis-server.js";
import { startRedis } from "../support/redis-server.js";

/** The commands that reach a server, by the connection that sent them. What a script does is one of them. */
class Monitor {
  readonly sent = new Map<string, string[][]>();
  readonly #redis: Redis;
  readonly #monitor: Redis;
  #seen: (mark: string) => void = () => undefined;

  private constructor(redis: Redis, monitor: Redis) {
    this.#redis = redis;
    this.#monitor = monitor;
    monitor.on("monitor", (_time: string, args: string[], source: string) => {
      if (args[0]?.toLowerCase() === "echo") this.#seen(args[1]!);
      else if (source !== "lua") this.sent.set(source, [...(this.sent.get(source) ?? []), args]);
    });
  }

  static async start(redis: Redis): Promise<Monitor> {
    return new Monitor(redis, await redis.monitor());
  }

  /** Resolves when everything has been seen that the server has run by now. */
  async catchUp(): Promise<void> {
    const mark = String(Math.random());
    const seen = new Promise<void>((resolve) => {
      this.#seen = (echoed) => {
        if (echoed === mark) resolve();
      };
    });
    await this.#redis.echo(mark);
    await seen;
  }

  /** The commands of each connection that sent one of these. */
  of(...names: string[]): string[][] {
    return [...this.sent.values()]
      .map((commands) => commands.map(([name]) => name!.toLowerCase()))
      .filter((commands) => commands.some((name) => names.includes(name)));
  }

  stop(): void {
    this.#monitor.disconnect();
  }
}

for (const major of majors) {
  describeOwnRedis(`a stampede, ioredis ${major.name}`, () => {
    let server: RedisServer;
    let raw: Redis;

    beforeAll(async () => {
      server = await startRedis();
      raw = new major.Redis(server.port, server.host);
    });
    afterAll(async () => {
      raw.disconnect();
      await server.stop();
    });

    async function connect(): Promise<Redis> {
      const client = new major.Redis(server.port, server.host);
      await client.ping();
      return client;
    }

    it("of 500 callers in one process is one recompute and at most 8 commands", async () => {
      const client = await connect();
      const monitor = await Monitor.start(raw);
      // However long its mailbox takes to open, it is waited for: a lock that was got before says so with one command more.
      const runtime: Runtime = {
        ...systemRuntime,
        startTimer: (ms, ref, run) => (ms === 100 && ref ? () => undefined : systemRuntime.startTimer(ms, ref, run)),
      };
      const cache = new CacheFence(client, { namespace: "500:" }, runtime);
      const gate = deferred();
      const recompute = vi.fn(async () => {
        await gate.promise;
        return { id: 1 };
      });
      const calls = Array.from({ length: 500 }, () => cache.getOrSet("k", 60, recompute));
      await eventually(() => expect(cache.stats().coalesced).toBe(499));
      gate.resolve();
      const values = await Promise.all(calls);
      await monitor.catchUp();
      monitor.stop();
      expect(values).toEqual(Array(500).fill({ id: 1 }));
      expect(new Set(values).size).toBe(500);
      expect(recompute).toHaveBeenCalledTimes(1);
      const commands = monitor.of("time", "hmget", "set", "get", "eval", "evalsha").flat();
      // The read, the claim and the store are three round trips. TIME goes along with the first read of ten seconds, and once
      // more where a busy machine was long in answering it.
      expect(commands.filter((name) => name !== "time")).toEqual(["hmget", "eval", "eval"]);
      expect(commands[0]).toBe("time");
      expect(commands.length).toBeLessThanOrEqual(5);
      await cache.close();
      client.disconnect();
    });

    it("on a warm key is one command for the callers of one tick, and one for each tick", async () => {
      const client = await connect();
      const cache = new CacheFence(client, { namespace: "warm:", beta: 0 });
      await cache.set("k", 60, 1);
      await cache.getOrSet("k", 60, () => 2); // Takes the sample of the clock.
      const monitor = await Monitor.start(raw);
      for (let tick = 0; tick < 3; tick++) {
        await Promise.all(Array.from({ length: 100 }, () => cache.getOrSet("k", 60, () => 2)));
      }
      await monitor.catchUp();
      monitor.stop();
      const commands = monitor.of("hmget").flat();
      expect(commands.filter((name) => name !== "time")).toEqual(["hmget", "hmget", "hmget"]);
      expect(cache.stats()).toMatchObject({ hits: 301, misses: 0, rebuilds: 0 });
      client.disconnect();
    });

    it("of many processes' worth of clients is one recompute, held by one lock", async () => {
      const clients = await Promise.all(Array.from({ length: 8 }, connect));
      const caches = clients.map((client) => new CacheFence(client, { namespace: "8:" }));
      const gate = deferred();
      let now = 0;
      let most = 0;
      const recompute = vi.fn(async () => {
        most = Math.max(most, ++now);
        await gate.promise;
        now--;
        return "value";
      });
      const calls = caches.flatMap((cache) => Array.from({ length: 50 }, () => cache.getOrSet("k", 60, recompute)));
      await expect.poll(() => waitersOf(raw, "8:k")).toBe(7);
      gate.resolve();
      expect(await Promise.all(calls)).toEqual(Array(400).fill("value"));
      expect(recompute).toHaveBeenCalledTimes(1);
      expect(most).toBe(1);
      const sum = (name: "rebuilds" | "waits" | "takeovers") =>
        caches.reduce((total, cache) => total + cache.stats()[name], 0);
      expect([sum("rebuilds"), sum("waits"), sum("takeovers")]).toEqual([1, 7, 0]);
      await Promise.all(caches.map((cache) => cache.close()));
      for (const client of clients) client.disconnect();
    });

    it("does not rebuild for a caller that gets the lock only after another holder has finished", async () => {
      const [first, second] = await Promise.all([connect(), connect()]);
      const holder = new CacheFence(first, { namespace: "late:" });
      // Its read finds nothing, and before it goes on to claim, the other one has come and gone.
      const held = vi.fn(async (...args: Parameters<Redis["hmgetBuffer"]>) => {
        const found = await second.hmgetBuffer(...args);
        if (held.mock.calls.length === 1) expect(await holder.getOrSet("k", 60, () => "first")).toBe("first");
        return found;
      });
      const late = new CacheFence(
        new Proxy(second, {
          get: (target, name) => {
            const value: unknown = name === "hmgetBuffer" ? held : Reflect.get(target, name);
            return typeof value === "function" ? (value.bind(target) as unknown) : value;
          },
        }),
        { namespace: "late:", redisTimeout: 20 },
      );
      const recompute = vi.fn();
      expect(await late.getOrSet("k", 60, recompute)).toBe("first");
      expect(recompute).not.toHaveBeenCalled();
      expect(late.stats()).toMatchObject({ misses: 1, rebuilds: 0, waits: 0 });
      await expect.poll(() => raw.exists("late:k:lock")).toBe(0);
      for (const client of [first, second]) client.disconnect();
    });
  });
}

const returns = { kind: "returns", value: 1, afterMs: 0 } as const;

describeOwnRedis("a stampede of processes", () => {
  let server: RedisServer;
  let fleet: Fleet;

  beforeAll(async () => {
    server = await startRedis();
    fleet = new Fleet(server.url);
  });
  afterAll(async () => {
    await fleet.close();
    await server.stop();
  });

  describe("of 4 x 250 callers", () => {
    it("is one recompute: a read and a claim for each process, and one store", async () => {
      const services = await fleet.open(4);
      // Each has its connection before it counts. The wait, and with it the subscriber, is still to come.
      await Promise.all(services.map((service, at) => service.getOrSet(`warm ${at}`, returns)));
      const monitor = await Monitor.start(fleet.redis);
      const calls = services.map((service) => service.getOrSet("k", { kind: "gated" }, 250));
      const started = await fleet.source.next();
      await fleet.untilWaiting("k", 3);
      started.succeed("value");
      const results = await Promise.all(calls);
      await monitor.catchUp();
      monitor.stop();
      expect(results.flat()).toHaveLength(1_000);
      expect(new Set(results.flat().map((result) => JSON.stringify(result))).size).toBe(1);
      expect(await fleet.counts()).toMatchObject({ starts: 4 + 1 });
      // The name that the fleet gives its connections, the check that its own client is ready, and the time of the server, which
      // is asked now and then, are not the rebuild's.
      const others = ["client", "info", "time"];
      const commands = monitor.of("hmget").map((names) => names.filter((one) => !others.includes(one)));
      expect(commands).toHaveLength(4);
      // One read and one claim each, and the store of one of them. The recompute lasts until all of them wait, which takes a
      // busy machine as long as it likes: then a waiter claims again, now and then.
      expect(commands.map((names) => names.slice(0, 2))).toEqual(Array(4).fill(["hmget", "evalsha"]));
      expect(new Set(commands.flatMap((names) => names.slice(2)))).toEqual(new Set(["evalsha"]));
      expect(monitor.of("subscribe")).toEqual([]);
    });
  });
});
