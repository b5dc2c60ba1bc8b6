import { CacheFence, type CacheFenceOptions } from "cachefence";
import type { Cluster, Redis } from "ioredis";
import { beforeEach, expect, it, vi } from "vitest";
import { type Runtime, systemRuntime } from "../../src/runtime.js";
import { waitersOf } from "./audience.js";
import { deferred } from "./deferred.js";
import { uniquePrefix } from "./describe-redis.js";
import { until } from "./waiting.js";

/** Two processes of a fleet that are one process here: each makes its caches over a client of its own. */
export interface Pair {
  readonly open: readonly [Open, Open];
  /** Raw commands, without a key prefix. */
  readonly raw: Raw;
  /** False where the server denies scripting: there are no copies in memory, and the rest is done by WATCH. */
  readonly isScripted: boolean;
  /** False on a Cluster, where nobody sees from a mailbox whether its process lives. */
  readonly showsDeath: boolean;
}

/** A pair over two clients of one kind. */
export function pairOver(clients: readonly [Redis | Cluster, Redis | Cluster], isScripted = true): Pair {
  const open = (client: Redis | Cluster): Open => {
    return (options, runtime) => new CacheFence(client, options, runtime);
  };
  const [one, other] = clients;
  return { open: [open(one), open(other)], raw: one, isScripted, showsDeath: !one.isCluster };
}

/** A user of whom the server runs no scripts. */
export const scriptless = { username: "scriptless", password: "secret" };

export async function addScriptlessUser(server: Pick<Redis, "acl">): Promise<void> {
  const { username, password } = scriptless;
  await server.acl("SETUSER", username, "on", `>${password}`, "~*", "&*", "+@all", "-@scripting");
}

export type Open = (options: CacheFenceOptions, runtime: Runtime) => CacheFence;

export interface Raw {
  zrange(key: string, from: number, to: number): Promise<string[]>;
  set(key: string, value: string, px: "PX", ms: number): Promise<unknown>;
  exists(key: string): Promise<number>;
}

interface Caches {
  readonly one: CacheFence;
  readonly other: CacheFence;
  readonly namespace: string;
}

// All that may be waited for instead of a message, or of what is under test, takes longer than a test may.
const never = { redisTimeout: 20, waitForLock: 60, lockTimeout: 60, memoryLease: 60, beta: 0 };
const LOOK_MS = 200;

// A waiter that does not look: only a message wakes it.
const withoutLooks: Runtime = {
  ...systemRuntime,
  startTimer: (delayMs, ref, run) => {
    return ref && delayMs >= LOOK_MS ? () => undefined : systemRuntime.startTimer(delayMs, ref, run);
  },
};

function openBoth({ open }: Pair, options: CacheFenceOptions = {}, runtime = systemRuntime): Caches {
  const namespace = uniquePrefix();
  const [one, other] = open.map((make) => make({ ...never, namespace, ...options }, runtime)) as [
    CacheFence,
    CacheFence,
  ];
  return { one, other, namespace };
}

// With a hash tag, so that lock and audience have the same names on a Cluster.
const KEY = "{key}";

/** What every kind of client, connection and build is to keep, whatever lies between it and Redis. */
export const promises: Readonly<Record<string, (pair: Pair) => Promise<void>>> = {
  "calls the recompute once for the callers of two processes, and wakes the waiters by a message": async (pair) => {
    const { one, other, namespace } = openBoth(pair, {}, withoutLooks);
    // Both mailboxes are there: until then a waiter looks.
    await Promise.all([one, other].map((cache, index) => cache.getOrSet(`warm ${index}`, 60, () => index)));
    const gate = deferred<string>();
    const started = deferred();
    const recompute = vi.fn(() => {
      started.resolve();
      return gate.promise;
    });
    const held = Array.from({ length: 20 }, () => one.getOrSet(KEY, 60, recompute));
    await started.promise;
    const waiting = Array.from({ length: 20 }, () => other.getOrSet(KEY, 60, recompute));
    // Without scripting, the holder has entered too, before it knew that it would be the holder.
    const waiters = pair.isScripted ? 1 : 2;
    await until("the other process waits", async () => (await waitersOf(pair.raw, namespace + KEY)) === waiters);
    gate.resolve("value");
    expect(new Set(await Promise.all([...held, ...waiting]))).toEqual(new Set(["value"]));
    expect(recompute).toHaveBeenCalledOnce();
    expect(other.stats()).toMatchObject({ waits: 1, coalesced: 19, rebuilds: 1, redisErrors: 0 });
    await isLeftClean(pair, namespace);
  },

  "refuses the store of a rebuild that another process has fenced": async (pair) => {
    const { one, other, namespace } = openBoth(pair);
    const value = await one.getOrSet(KEY, 60, async () => {
      await other.invalidate(KEY);
      return "old";
    });
    expect(value).toBe("old");
    expect(one.stats()).toMatchObject({ refusedStores: 1, redisErrors: 0 });
    expect(await other.getOrSet(KEY, 60, () => "new")).toBe("new");
    await one.set(KEY, 60, { bytes: "\u0000ключ\r\n" });
    expect(await other.getOrSet(KEY, 60, () => "newer")).toEqual({ bytes: "\u0000ключ\r\n" });
    await isLeftClean(pair, namespace);
  },

  "rebuilds each item of two overlapping lists once, and returns them in order": async (pair) => {
    const { one, other, namespace } = openBoth(pair);
    const keyOf = (item: number) => `{item-${item}}`;
    const asked: number[] = [];
    const source = async (items: number[]) => {
      asked.push(...items);
      return items.map((item) => `value ${item}`);
    };
    const lists = [
      [one, [9, 1, 5, 3, 7, 0]],
      [other, [0, 5, 8, 9, 2]],
      [one, [2, 3, 4]],
    ] as const;
    const found = await Promise.all(lists.map(([cache, items]) => cache.getOrSetMany(items, keyOf, 60, source)));
    for (const [index, [, items]] of lists.entries()) {
      expect([...found[index]!]).toEqual(items.map((item) => [item, `value ${item}`]));
    }
    expect(asked.sort()).toEqual([0, 1, 2, 3, 4, 5, 7, 8, 9]);
    expect((await one.getOrSetMany(asked, keyOf, 60, source)).size).toBe(9);
    expect(asked.length).toBe(9);
    await isLeftClean(pair, namespace, ...asked.map(keyOf));
  },

  "fences a whole group by its tag, and loses no fence that comes during a rebuild": async (pair) => {
    const { one, other, namespace } = openBoth(pair);
    const options = { tags: ["{team}", "{all}"] };
    const source = async () => {
      await other.invalidateTags("{team}");
      return "old";
    };
    expect(await one.getOrSet(KEY, 60, source, options)).toBe("old");
    expect(await other.getOrSet(KEY, 60, () => "new", options)).toBe("new");
    expect(await one.getOrSet(KEY, 60, () => "newer", options)).toBe("new");
    await one.invalidateTags("{all}");
    expect(await other.getOrSet(KEY, 60, () => "newest", options)).toBe("newest");
    await isLeftClean(pair, namespace);
  },

  "takes over from a holder whose process is dead": async (pair) => {
    const { one, other, namespace } = openBoth(pair, pair.showsDeath ? {} : { waitForLock: 2 });
    await pair.raw.set(`${namespace}${KEY}:lock`, `cachefence:L${"0".repeat(16)}-${"0".repeat(12)}`, "PX", 60_000);
    const recompute = vi.fn(() => "value");
    const values = await Promise.all([one, other].map((cache) => cache.getOrSet(KEY, 60, recompute)));
    expect(values).toEqual(["value", "value"]);
    expect(recompute).toHaveBeenCalledOnce();
    await isLeftClean(pair, namespace);
  },

  "recalls the copies of another process before a fence resolves, or keeps none": async (pair) => {
    const { one, other, namespace } = openBoth(pair, { memory: new Map() });
    const options = { tags: ["{team}"] };
    const sourceIn = async (cache: CacheFence) => (await cache.getOrSetEntry(KEY, 60, () => "first", options)).source;
    for (const cache of [one, other]) {
      await sourceIn(cache);
      if (!pair.isScripted) continue;
      await until("it has a copy", async () => (await sourceIn(cache)) === "memory");
    }
    await one.invalidate(KEY);
    expect(await other.getOrSet(KEY, 60, () => "second", options)).toBe("second");
    await other.invalidateTags("{team}");
    expect(await one.getOrSet(KEY, 60, () => "third", options)).toBe("third");
    // Each copy was confirmed: the lease is longer than this test.
    expect([one, other].map((cache) => cache.stats().fenceWaits)).toEqual([0, 0]);
    await isLeftClean(pair, namespace);
  },
};

/** No lock stands after what has used these keys. Each is freed by somebody: a lease is longer than the test. */
async function isLeftClean({ raw }: Pair, namespace: string, ...keys: readonly string[]): Promise<void> {
  for (const key of [KEY, "{team}:tag", "{all}:tag", ...keys]) {
    await until(`${key} is not locked`, async () => (await raw.exists(`${namespace}${key}:lock`)) === 0);
  }
}

/** A test for each of the promises. `connect` is called before each. */
export function itKeepsItsPromises(connect: () => Pair | Promise<Pair>): void {
  let pair: Pair;
  beforeEach(async () => {
    pair = await connect();
  });
  it.each(Object.keys(promises))("%s", (name) => promises[name]!(pair));
}
