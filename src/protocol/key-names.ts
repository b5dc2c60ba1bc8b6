import type { RedisClient } from "../link/redis-client.js";
import { hashTagOf, numberIn, slotOf } from "../link/slots.js";

/** Tells whether the keys of one command must share a slot. It may become so, when a server turns out to be one of a Cluster. */
export interface SlotRule {
  readonly needsSlots: boolean;
}

/**
 * The names that belong to one key, or to one tag. Commands get them without the client's `keyPrefix`, which it adds by
 * itself.
 */
export class KeyNames {
  /** The key (or tag) as the caller passed it, for errors and events. */
  readonly key: string;
  /** The hash that holds its entry (or its state). */
  readonly entry: string;
  /** The field by which that is known to be ours: of an entry its value, of a tag its state. Neither is taken for the other. */
  readonly mark: "v" | "state";
  readonly #keyPrefix: string;
  readonly #rule: SlotRule;

  constructor(key: string, entry: string, mark: "v" | "state", keyPrefix: string, rule: SlotRule) {
    this.key = key;
    this.entry = entry;
    this.mark = mark;
    this.#keyPrefix = keyPrefix;
    this.#rule = rule;
  }

  get lock(): string {
    return this.#beside("lock");
  }

  /** The members that wait for the key, or hold a copy of it. */
  get audience(): string {
    return this.#beside("audience");
  }

  /** The entry's name as Redis knows it. So it is named in messages. */
  get redisKey(): string {
    return this.#keyPrefix + this.entry;
  }

  #beside(ending: string): string {
    return this.#rule.needsSlots ? inSlotOf(this.entry, ending, this.#keyPrefix) : `${this.entry}:${ending}`;
  }
}

export class KeyNaming {
  readonly #namespace: string;
  readonly #keyPrefix: string;
  readonly #rule: SlotRule;

  constructor(client: Pick<RedisClient, "options">, namespace: string, rule: SlotRule) {
    this.#namespace = namespace;
    this.#keyPrefix = client.options?.keyPrefix ?? "";
    this.#rule = rule;
  }

  /** What stands before each key in the name by which Redis knows it. */
  get prefix(): string {
    return this.#keyPrefix + this.#namespace;
  }

  namesOf(key: string): KeyNames {
    return new KeyNames(key, this.#namespace + key, "v", this.#keyPrefix, this.#rule);
  }

  tagNamesOf(tag: string): KeyNames {
    return new KeyNames(tag, this.#namespace + tagKeyOf(tag), "state", this.#keyPrefix, this.#rule);
  }
}

/** The key of a tag's state, which no key of the user's may have. */
export function tagKeyOf(tag: string): string {
  return `${tag}:tag`;
}

const ENDING = /^(.*):(lock|audience|tag)$/s;

/** The key whose lock, audience or tag's state has this name, and which of the three; undefined if it is nobody's. */
export function ownerOf(name: string): { readonly owner: string; readonly what: string } | undefined {
  const [, owner, what] = ENDING.exec(name) ?? [];
  return owner === undefined || what === undefined ? undefined : { owner, what };
}

/**
 * A name that a Cluster keeps in the slot of its entry, so that one script may touch both.
 *
 * An entry key with a hash tag shares it with `<entry>:lock`; one without is itself the tag of `{<entry>}:lock`. Neither
 * holds for keys with a stray brace (`list:{}7`, `odd}key`): they get the first number as a tag whose slot is theirs; behind a
 * prefix that has opened the tag, together with what it has opened it with. ioredis takes a brace for the end of a tag that is
 * empty: of what has both (`{}a}`) all is hashed, and the number is no tag.
 */
export function inSlotOf(entry: string, ending: string, keyPrefix = ""): string {
  const key = keyPrefix + entry;
  const slot = slotOf(key);
  const open = keyPrefix.indexOf("{");
  if (/^[^{]*\{\}/.test(keyPrefix) || (open === -1 && /^[^{]*\{\}.*\}/s.test(entry))) {
    const rest = `:${entry}:${ending}`;
    return String(numberIn(slot, keyPrefix, rest)) + rest;
  }
  const plain = hashTagOf(key) === undefined ? `{${key}}:${ending}` : `${entry}:${ending}`;
  if (slotOf(keyPrefix + plain) === slot) return plain;
  if (open === -1) return `{${String(numberIn(slot, "", ""))}}${entry}:${ending}`;
  return `${String(numberIn(slot, keyPrefix.slice(open + 1), ""))}}${entry}:${ending}`;
}
