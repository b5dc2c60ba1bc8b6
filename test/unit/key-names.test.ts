import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { slotOf } from "../../src/link/slots.js";
import { KeyNaming as Naming, inSlotOf, ownerOf, tagKeyOf } from "../../src/protocol/key-names.js";
import type { RedisClient } from "../../src/link/redis-client.js";

const client = (isCluster: boolean, keyPrefix?: string) => ({ isCluster, options: { keyPrefix } }) as RedisClient;

class KeyNaming extends Naming {
  constructor(redis: RedisClient, namespace: string) {
    super(redis, namespace, { needsSlots: redis.isCluster === true });
  }
}

const lockInSlotOf = (entry: string, keyPrefix = "") => inSlotOf(entry, "lock", keyPrefix);
const all = ({ key, entry, lock, audience, redisKey }: ReturnType<Naming["namesOf"]>) => {
  return { key, entry, lock, audience, redisKey };
};

describe("the names of a key", () => {
  it("are those of Python cachefence: namespace + key, and `:lock` after it", () => {
    expect(all(new KeyNaming(client(false), "app:").namesOf("user:1"))).toEqual({
      key: "user:1",
      entry: "app:user:1",
      lock: "app:user:1:lock",
      audience: "app:user:1:audience",
      redisKey: "app:user:1",
    });
  });

  it("leave the keyPrefix to the client, but for the name in messages, where the client leaves it out", () => {
    expect(all(new KeyNaming(client(false, "p:"), "app:").namesOf("k"))).toEqual({
      key: "k",
      entry: "app:k",
      lock: "app:k:lock",
      audience: "app:k:audience",
      redisKey: "p:app:k",
    });
  });

  // ioredis takes an empty tag for one that goes on to the next brace.
  it("have no brace of their own behind a keyPrefix with an empty tag", () => {
    const { lock, audience } = new KeyNaming(client(true, "{}:"), "app:").namesOf("k");
    expect([lock, audience].join()).toMatch(/^\d+:app:k:lock,\d+:app:k:audience$/);
    for (const name of [lock, audience]) expect(slotOf(`{}:${name}`)).toBe(slotOf("{}:app:k"));
  });

  it("of a tag are those of a key with an ending of its own", () => {
    expect(all(new KeyNaming(client(false, "p:"), "app:").tagNamesOf("team"))).toEqual({
      key: "team",
      entry: "app:team:tag",
      lock: "app:team:tag:lock",
      audience: "app:team:tag:audience",
      redisKey: "p:app:team:tag",
    });
    expect(tagKeyOf("team")).toBe("team:tag");
  });

  it("become those of a Cluster when the server turns out to be one", () => {
    const rule = { needsSlots: false };
    const names = new Naming(client(false), "", rule).namesOf("k");
    expect([names.lock, names.audience]).toEqual(["k:lock", "k:audience"]);
    rule.needsSlots = true;
    expect([names.lock, names.audience]).toEqual(["{k}:lock", "{k}:audience"]);
  });

  it("tell whose they are", () => {
    expect(ownerOf("a:lock")).toEqual({ owner: "a", what: "lock" });
    expect(ownerOf("{a}:audience")).toEqual({ owner: "{a}", what: "audience" });
    expect(ownerOf("a:tag")).toEqual({ owner: "a", what: "tag" });
    expect(ownerOf("a:locks")).toBeUndefined();
  });

  it("are the same for clients that show no options", () => {
    expect(new KeyNaming({} as RedisClient, "").namesOf("k").lock).toBe("k:lock");
  });

  it("keep braces in keys off a Cluster", () => {
    expect(new KeyNaming(client(false), "").namesOf("{a}b").lock).toBe("{a}b:lock");
  });

  it("put the lock of a key without a hash tag at `{key}:lock` on a Cluster, the keyPrefix inside", () => {
    expect(new KeyNaming(client(true), "app:").namesOf("user:1").lock).toBe("{app:user:1}:lock");
    expect(new KeyNaming(client(true, "p:"), "app:").namesOf("user:1").lock).toBe("{p:app:user:1}:lock");
  });

  it("share the lock of a key with a hash tag with Python on a Cluster too", () => {
    expect(new KeyNaming(client(true), "app:").namesOf("{user:1}:name").lock).toBe("app:{user:1}:name:lock");
    expect(new KeyNaming(client(true, "{p}"), "").namesOf("k").lock).toBe("k:lock");
  });
});

describe("slotOf", () => {
  it.each([
    ["123456789", 12739],
    ["foo", 12182],
    ["bar", 5061],
    ["hello", 866],
    ["", 0],
  ])("puts %o where Redis puts it, in slot %d", (key, slot) => {
    expect(slotOf(key)).toBe(slot);
  });

  it("hashes the first hash tag only, if it is not empty and is closed", () => {
    expect(slotOf("a{foo}b{bar}")).toBe(slotOf("foo"));
    expect(slotOf("a{{foo}b}")).toBe(slotOf("{foo"));
    expect(slotOf("}{foo}")).toBe(slotOf("foo"));
    expect(slotOf("{}{foo}")).not.toBe(slotOf("foo"));
    expect(slotOf("{foo")).not.toBe(slotOf("foo"));
  });

  it("hashes bytes, not characters", () => {
    expect(slotOf("ä")).toBe(slotOf("{ä}x"));
    expect(slotOf("ä")).not.toBe(slotOf("\xc3\xa4".slice(0, 1)));
  });
});

describe("the lock of a Cluster", () => {
  const keys = [
    "k",
    "{a}b",
    "{}x",
    "{}x}",
    "odd}key",
    "a{b}c:{d}",
    "{",
    "}",
    "{}",
    "}{",
    "{a",
    "a}",
    "{{}}",
    "{}{}",
    "ä{",
    "",
  ];

  it.each(["", "p:", "{p}", "{", "}", "p{", "{}", "{}x{", "a{b", "ä{}"])(
    "is in the slot of its entry with the keyPrefix %o",
    (prefix) => {
      for (const key of keys) {
        expect(slotOf(prefix + lockInSlotOf(key, prefix))).toBe(slotOf(prefix + key));
      }
    },
  );

  it("is in the slot of its entry, and never the entry itself, whatever the key", () => {
    const braced = fc.string({ unit: fc.constantFrom("{", "}", "a", "b", ":", "ä"), maxLength: 12 });
    fc.assert(
      fc.property(braced, fc.string({ unit: fc.constantFrom("{", "}", "p"), maxLength: 3 }), (key, prefix) => {
        const lock = lockInSlotOf(key, prefix);
        expect(slotOf(prefix + lock)).toBe(slotOf(prefix + key));
        expect(lock).not.toBe(key);
        expect(lock.endsWith(":lock")).toBe(true);
      }),
      { seed: 5, numRuns: 300 },
    );
  });

  it("is `{key}:lock` also where the slot of `key:lock` happens to be that of the key", () => {
    const key = "user:44484";
    expect(slotOf(`${key}:lock`)).toBe(slotOf(key));
    expect(lockInSlotOf(key)).toBe(`{${key}}:lock`);
  });

  it("belongs to one key only", () => {
    const locks = keys.map((key) => lockInSlotOf(key));
    expect(new Set(locks).size).toBe(keys.length);
  });

  it.each(["list:{}", "q:}", "{}x", "odd}key", "a{b}c:{d}"])(
    "of %o is the first small number's whose slot it is, as ever",
    (key) => {
      const slot = slotOf(key);
      const bruteForce = () => {
        const hasTag = /\{[^}]+\}/.test(key);
        const plain = hasTag ? `${key}:lock` : `{${key}}:lock`;
        if (slotOf(plain) === slot) return plain;
        for (let number = 0; ; number++) if (slotOf(`{${number}}${key}:lock`) === slot) return `{${number}}${key}:lock`;
      };
      expect(lockInSlotOf(key)).toBe(bruteForce());
    },
  );

  it.each([
    ["{}:", ":"],
    ["ä{}", ":"],
    ["a{b", "}"],
  ])("behind %o has the first number there is, in whatever order processes ask: all name it alike", (prefix, close) => {
    const last = Array.from({ length: 8 }, (_, i) => `key-${i}`).reverse();
    for (const key of last) {
      const slot = slotOf(prefix + key);
      const nameOf = (number: number) => `${number}${close}${key}:lock`;
      let first = 0;
      while (slotOf(prefix + nameOf(first)) !== slot) first++;
      expect(lockInSlotOf(key, prefix)).toBe(nameOf(first));
    }
  });

  it.each(["", "{}:", "a{b", "ä{}"])(
    "of keys with stray braces costs no more than some milliseconds for all of them together, behind %o",
    (prefix) => {
      const beganMs = performance.now();
      for (let i = 0; i < 20_000; i++) lockInSlotOf(`list:{}{${i}`, prefix);
      // The search for each would be 10 ms: 200 s.
      expect(performance.now() - beganMs).toBeLessThan(10_000);
    },
  );
});
