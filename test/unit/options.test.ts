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
  keysOf,
  resolveCallOptions,
  resolveIdleOptions,
  resolveOptions,
  resolvePeekOptions,
  resolveSetOptions,
  resolveTags,
  staleForSeconds,
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
  memory: undefined,
  memoryLeaseMs: 1_000,
  freezesValues: false,
  perCall: {
    beta: 1,
    staleFor: 0,
    refreshesInBackground: false,
    recomputeTimeoutSeconds: undefined,
    retryAfterMs: 1_000,
    tags: [],
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
      ...[
        "serializer",
        "deserializer",
        "redisTimeout",
        "onRedisError",
        "retryAfter",
        "memory",
        "memoryLease",
        "values",
      ],
    ];
    expect(resolveOptions(Object.fromEntries(names.map((name) => [name, undefined])))).toEqual(defaults);
  });

  it("keep a zero", () => {
    const resolved = resolveOptions({ beta: 0, staleFor: 0, waitForLock: 0, retryAfter: 0 });
    expect(resolved.perCall).toMatchObject({ beta: 0, retryAfterMs: 0 });
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

  const store = new Map<string, object>();
  const lingers = (value: { found: boolean }) => (value.found ? 60 : 0);

  it.each<[string, CacheFenceOptions, object]>([
    ["lockTimeout", { lockTimeout: 0.5 }, { leaseMs: 500 }],
    ["lockTimeout, rounded up to a millisecond", { lockTimeout: 0.0001 }, { leaseMs: 1 }],
    ["waitForLock", { waitForLock: 2.5 }, { waitForLockMs: 2_500 }],
    ["namespace", { namespace: "app:" }, { namespace: "app:" }],
    ["redisTimeout", { redisTimeout: 0.25 }, { redisTimeoutMs: 250 }],
    ["onRedisError", { onRedisError: "throw" }, { throwsOnRedisError: true }],
    ["beta", { beta: 2.5 }, { perCall: { beta: 2.5 } }],
    ["staleFor", { staleFor: 30 }, { perCall: { staleFor: 30 } }],
    ["staleFor, a function", { staleFor: lingers }, { perCall: { staleFor: lingers } }],
    ["retryAfter", { retryAfter: 2.5 }, { perCall: { retryAfterMs: 2_500 } }],
    ["memory", { memory: store }, { memory: store }],
    ["the shortest memoryLease", { memoryLease: 0.05 }, { memoryLeaseMs: 50 }],
    ["the longest memoryLease", { memoryLease: 60 }, { memoryLeaseMs: 60_000 }],
    ["frozen values", { values: "frozen" }, { freezesValues: true }],
    ["own values", { values: "own" }, { freezesValues: false }],
    ["earlyRefresh", { earlyRefresh: "background" }, { perCall: { refreshesInBackground: true } }],
    ["recomputeTimeout", { recomputeTimeout: 3 }, { perCall: { recomputeTimeoutSeconds: 3 } }],
  ])("take %s", (_name, options, expected) => {
    expect(resolveOptions(options)).toMatchObject(expected);
  });

  const durations = [
    ...(["lockTimeout", "waitForLock", "redisTimeout", "staleFor", "recomputeTimeout", "retryAfter"] as const),
    ...(["memoryLease", "beta"] as const),
  ];
  const kindOf = (name: string) => (name === "beta" ? "a finite number" : "a number of seconds");

  it.each(
    durations.flatMap((name) =>
      [NaN, Infinity, -Infinity, -1, 1e300 * (name === "beta" ? -1 : 1)].map((value) => [name, value] as const),
    ),
  )("refuse %s of %d with a RangeError that names it", (name, value) => {
    const create = () => new CacheFence(untouchable(), { [name]: value });
    expect(create).toThrow(RangeError);
    expect(create).toThrow(
      new RegExp(`^Expected \`${name}\` to be ${kindOf(name)} >=? 0.*, got ${String(value).replace("+", "\\+")}$`),
    );
  });

  it.each(["lockTimeout", "redisTimeout", "recomputeTimeout"])("refuse a %s of 0", (name) => {
    expect(() => resolveOptions({ [name]: 0 })).toThrow(
      new RangeError(`Expected \`${name}\` to be a number of seconds > 0 and <= 2147483, got 0`),
    );
  });

  it("refuse a duration that would overflow a timer, and take the longest that does not", () => {
    for (const name of ["lockTimeout", "redisTimeout", "recomputeTimeout", "retryAfter"]) {
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
      expect(create).toThrow(`Expected \`${name}\` to be ${kindOf(name)} `);
    },
  );

  it.each([
    [{ namespace: 1 }, "Expected `namespace` to be a string, got 1"],
    [{ namespace: null }, "Expected `namespace` to be a string, got null"],
    [{ onRedisError: "ignore" }, 'Expected `onRedisError` to be "recompute" or "throw", got "ignore"'],
    [{ earlyRefresh: "later" }, 'Expected `earlyRefresh` to be "inline" or "background", got "later"'],
    [{ earlyRefresh: true }, 'Expected `earlyRefresh` to be "inline" or "background", got true'],
    [{ namespace: "a\ud83e" }, 'Expected `namespace` to be a well-formed string (no lone surrogates), got "a\\ud83e"'],
    [{ memory: true }, "Expected `memory` to be an object, got true"],
    [{ memory: {} }, "Expected `memory` to be a Map, or to have its get, set and delete, got one without get()"],
    [
      { memory: new WeakSet() },
      "Expected `memory` to be a Map, or to have its get, set and delete, got one without get()",
    ],
    [{ values: "shared" }, 'Expected `values` to be "own" or "frozen", got "shared"'],
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
  const perCall = ["beta", "staleFor", "earlyRefresh", "recomputeTimeout", "retryAfter"];
  const ofInstance = [
    ...["lockTimeout", "waitForLock", "namespace", "redisTimeout", "onRedisError"],
    ...["memory", "memoryLease", "values"],
  ];

  it.each([...perCall, ...ofInstance, "serializer", "deserializer"])("is no default but a TypeError: %s", (name) => {
    const create = () => new CacheFence(untouchable(), { serializer: String, deserializer: String, [name]: null });
    expect(create).toThrow(TypeError);
    expect(create).toThrow(message(name));
  });

  it.each([...perCall, "signal", "tags"])("of a call rejects it, before anything is sent: %s", async (name) => {
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
    expect(resolveCallOptions({ staleFor: 0 }, instance)).toEqual({ ...instance, staleFor: 0 });
    expect(resolveCallOptions({ staleFor: Number }, instance)).toEqual({ ...instance, staleFor: Number });
    expect(resolveCallOptions({ retryAfter: 0 }, instance)).toEqual({ ...instance, retryAfterMs: 0 });
    expect(resolveCallOptions({ tags: ["a"] }, instance)).toEqual({ ...instance, tags: ["a"] });
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
    [{ retryAfter: -1 }, RangeError, "Expected `retryAfter` to be a number of seconds >= 0 and <= 2147483, got -1"],
    [{ tags: "a" }, TypeError, 'Expected `tags` to be an array of strings, got "a"'],
    [{ tags: ["a", ""] }, TypeError, 'Expected `tag` to be a non-empty string, got ""'],
    [{ namespace: "a" }, TypeError, "Option `namespace` is no option of `getOrSet`, but of the constructor"],
    [{ stalefor: 1 }, TypeError, "Unknown option `stalefor`: did you mean `staleFor`?"],
    [{ signal: {} }, TypeError, "Expected `signal` to be an AbortSignal, got an object"],
    [null, TypeError, "Expected `options` to be an object, got null"],
  ])("are refused by a rejection, before anything is sent: %o", async (options, errorClass, message) => {
    const call = new CacheFence(untouchable()).getOrSet("k", 1, () => 1, options as GetOrSetOptions);
    await expect(call).rejects.toThrow(errorClass);
    await expect(call).rejects.toThrow(message);
  });
});

describe("an unknown option", () => {
  it.each([
    ["namepsace", "did you mean `namespace`?"],
    ["stalefor", "did you mean `staleFor`?"],
    ["staleForever", "did you mean `staleFor`?"],
    ["lockTimout", "did you mean `lockTimeout`?"],
    ["nameSpace", "did you mean `namespace`?"],
    ["lease", "did you mean `memoryLease`?"],
    ["retry", "did you mean `retryAfter`?"],
  ])("of the constructor is a TypeError that names the nearest: %s", (name, hint) => {
    const create = () => new CacheFence(untouchable(), { [name]: undefined });
    expect(create).toThrow(new TypeError(`Unknown option \`${name}\`: ${hint}`));
  });

  it("that is like no other is told all of them", () => {
    const message =
      "Unknown option `ttl`: known are `beta`, `staleFor`, `earlyRefresh`, `recomputeTimeout`, `retryAfter`";
    expect(() => resolveOptions({ ttl: 60 } as object)).toThrow(message);
    expect(() => resolvePeekOptions({ x: 1 } as object)).toThrow("Unknown option `x`: known are `tags`");
  });

  it("is told whose it is, if it is one of another place", () => {
    const { perCall } = resolveOptions();
    const refused: [() => unknown, string][] = [
      [
        () => resolveOptions({ tags: [] } as object),
        "`tags` is no option of the constructor, but of `getOrSet`, `set`, `peek`",
      ],
      [
        () => resolveCallOptions({ memory: new Map() } as object, perCall),
        "`memory` is no option of `getOrSet`, but of the constructor",
      ],
      [
        () => resolveSetOptions({ beta: 1 } as object, perCall),
        "`beta` is no option of `set`, but of the constructor, `getOrSet`, `definition`",
      ],
      [
        () => resolveIdleOptions({ tags: [] } as object),
        "`tags` is no option of `idle`, but of `getOrSet`, `set`, `peek`",
      ],
    ];
    for (const [refuse, message] of refused) expect(refuse).toThrow(new TypeError(`Option ${message}`));
  });

  it("that is not the object's own is left alone", () => {
    expect(resolveOptions(Object.create({ inherited: 1 }) as object)).toEqual(defaults);
    expect(resolveOptions(Object.defineProperty({}, "hidden", { value: 1 }))).toEqual(defaults);
  });
});

describe("the options of set, peek and idle", () => {
  const { perCall } = resolveOptions({ staleFor: 30 });

  it("have their defaults, at no cost", () => {
    expect(resolveSetOptions(undefined, perCall)).toBe(perCall);
    expect(resolveSetOptions({}, perCall)).toEqual({ tags: [], staleFor: 30 });
    expect(resolvePeekOptions(undefined)).toBe(resolveTags(undefined));
    expect(resolvePeekOptions({})).toEqual([]);
    expect(resolveIdleOptions(undefined)).toBeUndefined();
    expect(resolveIdleOptions({})).toBeUndefined();
  });

  it("are taken", () => {
    const { signal } = new AbortController();
    expect(resolveSetOptions({ tags: ["b", "a"], staleFor: 1 }, perCall)).toEqual({ tags: ["a", "b"], staleFor: 1 });
    expect(resolveSetOptions({ staleFor: Number }, perCall).staleFor).toBe(Number);
    expect(resolvePeekOptions({ tags: ["a"] })).toEqual(["a"]);
    expect(resolveIdleOptions({ signal })).toBe(signal);
  });

  it("are refused", () => {
    expect(() => resolveSetOptions({ staleFor: -1 }, perCall)).toThrow(RangeError);
    expect(() => resolveSetOptions(null as never, perCall)).toThrow("Expected `options` to be an object, got null");
    expect(() => resolvePeekOptions({ tags: "a" as never })).toThrow("Expected `tags` to be an array of strings");
    expect(() => resolveIdleOptions({ signal: {} as never })).toThrow("Expected `signal` to be an AbortSignal");
  });
});

describe("tags", () => {
  it("are sorted by code unit, each once, in a list of their own", () => {
    const given = ["b", "ä", "a", "B", "b"];
    expect(resolveTags(given)).toEqual(["B", "a", "b", "ä"]);
    expect(given).toHaveLength(5);
    expect(Object.isFrozen(resolveTags(given))).toBe(true);
  });

  it("share one list where there are none", () => {
    expect(resolveTags(undefined)).toEqual([]);
    for (const none of [resolveTags([]), resolveOptions().perCall.tags]) expect(none).toBe(resolveTags(undefined));
    expect(Object.isFrozen(resolveTags([]))).toBe(true);
  });

  it.each([null, "a", new Set(["a"]), 1])("are an array: not %o", (tags) => {
    expect(() => resolveTags(tags)).toThrow(TypeError);
  });

  it.each([[[1]], [[""]], [["a\udc00"]], [[undefined]], [[["a"]]]])("are names: not %o", (tags) => {
    expect(() => resolveTags(tags)).toThrow(/^Expected `tag` to be a (non-empty|well-formed) string/);
  });
});

describe("staleFor", () => {
  it("is a number of seconds, or what its function makes of the value", () => {
    expect(staleForSeconds(30, "value")).toBe(30);
    expect(staleForSeconds((value) => (value as number) * 2, 4)).toBe(8);
    expect(staleForSeconds(() => 0, 1)).toBe(0);
  });

  it.each([
    [-1, RangeError],
    [NaN, RangeError],
    [1.1e11, RangeError],
    [undefined, TypeError],
    ["60", TypeError],
  ])("refuses %o from its function", (returned, errorClass) => {
    const ask = () => staleForSeconds(() => returned as number, 1);
    expect(ask).toThrow(errorClass);
    expect(ask).toThrow("Expected `staleFor(value)` to be a number of seconds >= 0 and <= 100000000000, got ");
  });
});

describe("the keys of a call that takes many", () => {
  it("are strings, or one iterable of strings", () => {
    expect(keysOf([])).toEqual([]);
    expect(keysOf(["a", "b"])).toEqual(["a", "b"]);
    expect(keysOf(["abc"])).toEqual(["abc"]);
    for (const iterable of [
      ["a", "b"],
      new Set(["a", "b"]),
      ["a", "b"].values(),
      new Map([
        ["a", 1],
        ["b", 2],
      ]).keys(),
    ]) {
      expect(keysOf([iterable])).toEqual(["a", "b"]);
    }
    expect(keysOf([[]])).toEqual([]);
  });

  it("may be more than fit on the stack", () => {
    expect(keysOf([Array.from({ length: 300_000 }, (_, i) => `k${String(i)}`)])).toHaveLength(300_000);
  });

  it.each<[unknown[], string]>([
    [[1], "Expected `keys` to be strings, or one iterable of strings, got 1"],
    [[undefined], "Expected `keys` to be strings, or one iterable of strings, got undefined"],
    [[{}], "Expected `keys` to be strings, or one iterable of strings, got an object"],
    [[""], 'Expected `key` to be a non-empty string, got ""'],
    [[["a"], ["b"]], "Expected `key` to be a non-empty string, got an array"],
    [["a", 1], "Expected `key` to be a non-empty string, got 1"],
    [[["a", 1]], "Expected `key` to be a non-empty string, got 1"],
    [[new Map([["a", 1]])], "Expected `key` to be a non-empty string, got an array"],
  ])("refuse %o", (args, message) => {
    expect(() => keysOf(args)).toThrow(new TypeError(message));
  });

  it("are called by their name", () => {
    expect(() => keysOf([1], "tag")).toThrow("Expected `tags` to be strings, or one iterable of strings, got 1");
    expect(() => keysOf(["a", ""], "tag")).toThrow("Expected `tag` to be a non-empty string");
  });
});

describe("the arguments of a call", () => {
  it("refuse a key with half a character, which would share its entry with others", async () => {
    const cut = ["search:cats🦊".slice(0, 12), "search:cats😀".slice(0, 12), "\udc00", "a\udc00\ud800b"];
    const cache = new CacheFence(untouchable());
    for (const key of cut) {
      const message = "Expected `key` to be a well-formed string (no lone surrogates), got ";
      expect(() => checkKey(key)).toThrow(new TypeError(message + JSON.stringify(key)));
      await expect(cache.getOrSet(key, 1, () => 1)).rejects.toThrow(message);
      await expect(cache.invalidate(key)).rejects.toThrow(message);
      await expect(cache.set(key, 1, 1)).rejects.toThrow(message);
    }
    for (const key of ["search:cats🦊", "ü", "k", "日本"]) expect(() => checkKey(key)).not.toThrow();
  });

  it.each([undefined, null, "", 1, {}, Symbol.iterator, ["k"]])("refuse %o as a key", async (key) => {
    expect(() => checkKey(key)).toThrow(TypeError);
    expect(() => checkKey(key)).toThrow("Expected `key` to be a non-empty string, got");
    const cache = new CacheFence(untouchable());
    await expect(cache.getOrSet(key as string, 1, () => 1)).rejects.toThrow(TypeError);
    await expect(cache.invalidate("good", key as string)).rejects.toThrow(TypeError);
    await expect(cache.set(key as string, 1, 1)).rejects.toThrow(TypeError);
  });

  it.each([0, -1, NaN, Infinity, 1.1e11])("refuse %d as a ttl with a RangeError", async (ttl) => {
    const message = `Expected \`ttl\` to be a number of seconds > 0 and <= 100000000000, got ${ttl}`;
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
      "Expected `ttl` to be a number of seconds > 0 and <= 100000000000, got a function",
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

  it("is refused when its keyPrefix is cut in the middle of a character", () => {
    expect(() => new CacheFence(untouchable({ options: { keyPrefix: "\ud83e" } }))).toThrow(
      "Expected `redis.options.keyPrefix` to be a well-formed string (no lone surrogates), got ",
    );
    expect(() => new CacheFence(untouchable({ options: { keyPrefix: "🦊:" } }))).not.toThrow();
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
