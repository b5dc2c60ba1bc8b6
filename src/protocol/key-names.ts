import type { RedisClient } from "../link/redis-client.js";
import { hashTagOf, slotOf } from "../link/slots.js";

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
 * holds for keys with a stray brace (`{}x`, `odd}key`): they get the first small number whose slot is theirs. Behind a
 * prefix with an empty tag (`{}:`) all of a name is hashed, and no brace is put: ioredis takes that for the end of a tag.
 */
export function inSlotOf(entry: string, ending: string, keyPrefix = ""): string {
  const slot = slotOf(keyPrefix + entry);
  const isHere = (name: string): boolean => slotOf(keyPrefix + name) === slot;
  const hasEmptyTag = /^[^{]*\{\}/.test(keyPrefix);
  if (!hasEmptyTag) {
    const hasTag = hashTagOf(keyPrefix + entry) !== undefined;
    const plain = hasTag ? `${entry}:${ending}` : `{${keyPrefix}${entry}}:${ending}`;
    if (isHere(plain)) return plain;
    const number = String(firstNumberIn(slot));
    const numbered = `{${number}}${entry}:${ending}`;
    if (isHere(numbered)) return numbered;
    // For a prefix that has opened the tag already: what it has opened it with counts too.
    if (isHere(`${number}}${entry}:${ending}`)) return `${number}}${entry}:${ending}`;
  }
  const close = hasEmptyTag ? ":" : "}";
  for (let other = 0; ; other++) {
    const name = `${String(other)}${close}${entry}:${ending}`;
    if (isHere(name)) return name;
  }
}

// Slot -> the first small number that is in it. Filled as far as anybody has looked: once for all keys, and in a few
// milliseconds altogether.
const firstNumbers = new Map<number, number>();
let numbersTried = 0;

function firstNumberIn(slot: number): number {
  for (;;) {
    const known = firstNumbers.get(slot);
    if (known !== undefined) return known;
    const number = numbersTried++;
    const its = slotOf(String(number));
    if (!firstNumbers.has(its)) firstNumbers.set(its, number);
  }
}
