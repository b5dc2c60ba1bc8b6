import { CacheFence } from "cachefence";
import type { CacheFenceOptions, GetOrSetOptions, RedisClient } from "cachefence";
import { describe, expect, it } from "vitest";
import {
  checkClient,
  checkKey,
  checkLifetime,
  checkRecompute,
  checkReturnedTtl,
  checkTtl,
  resolveCallOptions,
  resolveOptions,
  wholeMs,
} from "../../src/options.js";
import { REQUIRED_COMMANDS } from "../../src/link/redis-client.js";

const defaults = {
  leaseMs: 10_000,
  waitForLockMs: 5_000,
  namespace: "",
  serializer: undefined,
  deserializer: undefined,
  redisTimeoutMs: 1_000,
  throwsOnRedisError: false,
  perCall: {
    beta: 1,
    staleForSeconds: 0,
    refreshesInBackground: false,
    recomputeTimeoutSeconds: undefined,
    signal: undefined,
  },
};

/** A client that fails the test when a command is sent. */
function untouchable(extra: object = {}): RedisClient {
  const refuse = () => {
    throw new Error("Nothing may be sent");
  };
  return Object.assign(Object.fromEntries(REQUIRED_COMMANDS.map((name) => [name, refuse])), extra) as never;
}

describe("the options of a CacheFence", () => {
  it("have the defaults that the documentation names", () => {
    expect(resolveOptions()).toEqual(defaults);
    expect(resolveOptions({})).toEqual(defaults);
  });

  it("take an explicit undefined for the default", () => {
    const names = [
      ...["beta", "staleFor", "earlyRefresh", "recomputeTimeout", "lockTimeout", "waitForLock", "namespace"],
      ...["serializer", "deserializer", "redisTimeout", "onRedisError"],
    ];
    expect(resolveOptions(Object.fromEntries(names.map((name) => [name, undefined])))).toEqual(defaults);
  });

  it("keep a zero", () => {
    const resolved = resolveOptions({ beta: 0, staleFor: 0, waitForLock: 0 });
    expect(resolved.perCall.beta).toBe(0);
    expect(resolved.waitForLockMs).toBe(0);
  });

  it("are read once and frozen", () => {
    const options = { beta: 2, namespace: "a:" };
    const resolved = resolveOptions(options);
    options.beta = 3;
    options.namespace = "b:";
    expect(resolved).toMatchObject({ namespace: "a:", perCall: { beta: 2 } });
    expect(Object.isFrozen(resolved)).toBe(true);
    expect(Object.isFrozen(resolved.perCall)).toBe(true);
  });

  it.each<[string, CacheFenceOptions, object]>([
    ["lockTimeout", { lockTimeout: 0.5 }, { leaseMs: 500 }],
    ["lockTimeout, rounded up to a millisecond", { lockTimeout: 0.0001 }, { leaseMs: 1 }],
    ["waitForLock", { waitForLock: 2.5 }, { waitForLockMs: 2_500 }],
    ["namespace", { namespace: "app:" }, { namespace: "app:" }],
    ["redisTimeout", { redisTimeout: 0.25 }, { redisTimeoutMs: 250 }],
    ["onRedisError", { onRedisError: "throw" }, { throwsOnRedisError: true }],
    ["beta", { beta: 2.5 }, { perCall: { beta: 2.5 } }],
    ["staleFor", { staleFor: 30 }, { perCall: { staleForSeconds: 30 } }],
    ["earlyRefresh", { earlyRefresh: "background" }, { perCall: { refreshesInBackground: true } }],
    ["recomputeTimeout", { recomputeTimeout: 3 }, { perCall: { recomputeTimeoutSeconds: 3 } }],
  ])("take %s", (_name, options, expected) => {
    expect(resolveOptions(options)).toMatchObject(expected);
  });

  const durations = ["lockTimeout", "waitForLock", "redisTimeout", "staleFor", "recomputeTimeout", "beta"] as const;

  it.each(
    durations.flatMap((name) =>
      [NaN, Infinity, -Infinity, -1, 1e300 * (name === "beta" ? -1 : 1)].map((value) => [name, value] as const),
    ),
  )("refuse %s of %d with a RangeError that names it", (name, value) => {
    const create = () => new CacheFence(untouchable(), { [name]: value });
    expect(create).toThrow(RangeError);
    expect(create).toThrow(
      new RegExp(`^Expected \`${name}\` to be a finite number >=? 0.*, got ${String(value).replace("+", "\\+")}$`),
    );
  });

  it.each(["lockTimeout", "redisTimeout", "recomputeTimeout"])("refuse a %s of 0", (name) => {
    expect(() => resolveOptions({ [name]: 0 })).toThrow(
      new RangeError(`Expected \`${name}\` to be a finite number > 0 and <= 2147483, got 0`),
    );
  });

  it("refuse a duration that would overflow a timer, and take the longest that does not", () => {
    for (const name of ["lockTimeout", "redisTimeout", "recomputeTimeout"]) {
      expect(() => resolveOptions({ [name]: 2_147_483 })).not.toThrow();
      expect(() => resolveOptions({ [name]: 2_147_484 })).toThrow(RangeError);
    }
    // Joiners of a rebuild wait twice as long.
    expect(() => resolveOptions({ waitForLock: 1_073_741 })).not.toThrow();
    expect(() => resolveOptions({ waitForLock: 1_073_742 })).toThrow(RangeError);
    expect(() => resolveOptions({ staleFor: 1e11 })).not.toThrow();
    expect(() => resolveOptions({ staleFor: 1.1e11 })).toThrow(RangeError);
  });

  it.each(durations.flatMap((name) => ["1", true, {}, [], 1n].map((value) => [name, value] as const)))(
    "refuse %s that is no number with a TypeError: %o",
    (name, value) => {
      const create = () => new CacheFence(untouchable(), { [name]: value });
      expect(create).toThrow(TypeError);
      expect(create).toThrow(`Expected \`${name}\` to be a finite number`);
    },
  );

  it.each([
    [{ namespace: 1 }, "Expected `namespace` to be a string, got 1"],
    [{ namespace: null }, "Expected `namespace` to be a string, got null"],
    [{ onRedisError: "ignore" }, 'Expected `onRedisError` to be "recompute" or "throw", got "ignore"'],
    [{ earlyRefresh: "later" }, 'Expected `earlyRefresh` to be "inline" or "background", got "later"'],
    [{ earlyRefresh: true }, 'Expected `earlyRefresh` to be "inline" or "background", got true'],
    [{ serializer: 1, deserializer: 1 }, "Expected `serializer` to be a function, got 1"],
    [{ serializer: String, deserializer: [] }, "Expected `deserializer` to be a function, got an array"],
    [{ serializer: String }, "Expected `serializer` and `deserializer` to be given together, got only one of them"],
    [{ deserializer: String }, "Expected `serializer` and `deserializer` to be given together, got only one of them"],
    [null, "Expected `options` to be an object, got null"],
    ["beta", 'Expected `options` to be an object, got "beta"'],
  ])("refuse %o with a TypeError", (options, message) => {
    const create = () => new CacheFence(untouchable(), options as CacheFenceOptions);
    expect(create).toThrow(TypeError);
    expect(create).toThrow(message);
  });
});

describe("null for an option", () => {
  const message = (name: string) => new RegExp(`^Expected \`${name}\` to be .+, got null$`);
  const perCall = ["beta", "staleFor", "earlyRefresh", "recomputeTimeout"];
  const ofInstance = ["lockTimeout", "waitForLock", "namespace", "redisTimeout", "onRedisError"];

  it.each([...perCall, ...ofInstance, "serializer", "deserializer"])("is no default but a TypeError: %s", (name) => {
    const create = () => new CacheFence(untouchable(), { serializer: String, deserializer: String, [name]: null });
    expect(create).toThrow(TypeError);
    expect(create).toThrow(message(name));
  });

  it.each([...perCall, "signal"])("of a call rejects it, before anything is sent: %s", async (name) => {
    const call = new CacheFence(untouchable()).getOrSet("k", 1, () => 1, { [name]: null });
    await expect(call).rejects.toThrow(TypeError);
    await expect(call).rejects.toThrow(message(name));
  });
});

describe("the options of one call", () => {
  const instance = resolveOptions({ beta: 2, staleFor: 30, earlyRefresh: "background", recomputeTimeout: 3 }).perCall;

  it("are those of the instance when there are none, at no cost", () => {
    expect(resolveCallOptions(undefined, instance)).toBe(instance);
    expect(resolveCallOptions({}, instance)).toEqual(instance);
    expect(resolveCallOptions({ beta: undefined, signal: undefined }, instance)).toEqual(instance);
  });

  it("replace those of the instance, one by one", () => {
    const { signal } = new AbortController();
    expect(resolveCallOptions({ beta: 0 }, instance)).toEqual({ ...instance, beta: 0 });
    expect(resolveCallOptions({ staleFor: 0 }, instance)).toEqual({ ...instance, staleForSeconds: 0 });
    expect(resolveCallOptions({ earlyRefresh: "inline" }, instance)).toEqual({
      ...instance,
      refreshesInBackground: false,
    });
    expect(resolveCallOptions({ recomputeTimeout: 1 }, instance)).toEqual({ ...instance, recomputeTimeoutSeconds: 1 });
    expect(resolveCallOptions({ signal }, instance)).toEqual({ ...instance, signal });
  });

  it.each([
    [{ beta: -1 }, RangeError, "`beta`"],
    [{ staleFor: NaN }, RangeError, "`staleFor`"],
    [{ earlyRefresh: "no" }, TypeError, "`earlyRefresh`"],
    [{ recomputeTimeout: 0 }, RangeError, "`recomputeTimeout`"],
    [{ signal: {} }, TypeError, "Expected `signal` to be an AbortSignal, got an object"],
    [null, TypeError, "Expected `options` to be an object, got null"],
  ])("are refused by a rejection, before anything is sent: %o", async (options, errorClass, message) => {
    const call = new CacheFence(untouchable()).getOrSet("k", 1, () => 1, options as GetOrSetOptions);
    await expect(call).rejects.toThrow(errorClass);
    await expect(call).rejects.toThrow(message);
  });
});

describe("the arguments of a call", () => {
  it.each([undefined, null, "", 1, {}, Symbol.iterator, ["k"]])("refuse %o as a key", async (key) => {
    expect(() => checkKey(key)).toThrow(TypeError);
    expect(() => checkKey(key)).toThrow("Expected `key` to be a non-empty string, got");
    const cache = new CacheFence(untouchable());
    await expect(cache.getOrSet(key as string, 1, () => 1)).rejects.toThrow(TypeError);
    await expect(cache.invalidate("good", key as string)).rejects.toThrow(TypeError);
    await expect(cache.set(key as string, 1, 1)).rejects.toThrow(TypeError);
  });

  it.each([0, -1, NaN, Infinity, 1.1e11])("refuse %d as a ttl with a RangeError", async (ttl) => {
    const message = `Expected \`ttl\` to be a finite number of seconds > 0 and <= 100000000000, got ${ttl}`;
    expect(() => checkTtl(ttl)).toThrow(new RangeError(message));
    expect(() => checkLifetime(ttl)).toThrow(new RangeError(message));
    const cache = new CacheFence(untouchable());
    await expect(cache.getOrSet("k", ttl, () => 1)).rejects.toThrow(new RangeError(message));
    await expect(cache.set("k", ttl, 1)).rejects.toThrow(new RangeError(message));
  });

  it.each([undefined, null, "60", {}, 60n])("refuse %o as a ttl with a TypeError", async (ttl) => {
    expect(() => checkTtl(ttl)).toThrow(TypeError);
    await expect(new CacheFence(untouchable()).getOrSet("k", ttl as number, () => 1)).rejects.toThrow(TypeError);
    await expect(new CacheFence(untouchable()).set("k", ttl as number, 1)).rejects.toThrow(TypeError);
  });

  it("take a function as a ttl in getOrSet only", async () => {
    expect(() => checkTtl(() => 1)).not.toThrow();
    const set = new CacheFence(untouchable()).set("k", (() => 1) as never, 1);
    await expect(set).rejects.toThrow(
      "Expected `ttl` to be a finite number of seconds > 0 and <= 100000000000, got a function",
    );
  });

  it("take 0 from a ttl function, but nothing below and nothing that is no number", () => {
    expect(checkReturnedTtl(0)).toBe(0);
    expect(checkReturnedTtl(1e11)).toBe(1e11);
    expect(() => checkReturnedTtl(-1)).toThrow(/^Expected `ttl\(value\)` to be .*, got -1$/);
    expect(() => checkReturnedTtl(NaN)).toThrow(RangeError);
    expect(() => checkReturnedTtl(undefined)).toThrow(TypeError);
  });

  it.each([undefined, null, 1, "f", {}])("refuse %o as recompute", async (recompute) => {
    expect(() => checkRecompute(recompute)).toThrow(TypeError);
    const call = new CacheFence(untouchable()).getOrSet("k", 1, recompute as () => number);
    await expect(call).rejects.toThrow("Expected `recompute` to be a function, got");
  });
});

describe("the client", () => {
  it.each([undefined, null, "redis://localhost", () => 1])("is refused when it is %o", (redis) => {
    expect(() => checkClient(redis)).toThrow(TypeError);
    expect(() => checkClient(redis)).toThrow("Expected `redis` to be an ioredis client, got");
  });

  it("is refused when a command is missing, by name", () => {
    for (const name of REQUIRED_COMMANDS) {
      expect(() => new CacheFence(untouchable({ [name]: undefined }))).toThrow(
        new TypeError(`Expected \`redis\` to be an ioredis client, got one without ${name}()`),
      );
    }
  });

  it("is refused when it is a Cluster that reads from replicas, which may hold what was invalidated", () => {
    for (const scaleReads of ["slave", "all", () => 0]) {
      const cluster = untouchable({ isCluster: true, options: { scaleReads } });
      expect(() => new CacheFence(cluster)).toThrow(/^Expected `redis\.options\.scaleReads` to be "master", got/);
    }
    const accepted = [{ isCluster: true }, { isCluster: true, options: { scaleReads: "master" } }];
    for (const extra of accepted) expect(() => new CacheFence(untouchable(extra))).not.toThrow();
    expect(() => new CacheFence(untouchable({ options: { scaleReads: "slave" } }))).not.toThrow();
  });
});

describe("wholeMs", () => {
  it("rounds up to a whole millisecond, of which there is at least one", () => {
    expect([0, 1e-9, 0.001, 0.0011, 1.5, 1e11].map(wholeMs)).toEqual([1, 1, 1, 2, 1_500, 1e14]);
  });
});
