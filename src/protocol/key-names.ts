import type { RedisClient } from "../link/redis-client.js";

/** The names that belong to one key. Commands get them without the client's `keyPrefix`, which it adds by itself. */
export interface KeyNames {
  /** The key as the caller passed it, for errors and events. */
  readonly key: string;
  readonly entry: string;
  readonly lock: string;
  /** Wake-ups are published here. Holds the `keyPrefix` itself, for PUBLISH does not get it. */
  readonly channel: string;
}

export class KeyNaming {
  readonly #namespace: string;
  readonly #keyPrefix: string;
  readonly #isCluster: boolean;

  constructor(client: RedisClient, namespace: string) {
    this.#namespace = namespace;
    this.#keyPrefix = client.options?.keyPrefix ?? "";
    this.#isCluster = client.isCluster === true;
  }

  entryOf(key: string): string {
    return this.#namespace + key;
  }

  namesOf(key: string): KeyNames {
    const entry = this.entryOf(key);
    return {
      key,
      entry,
      lock: this.#isCluster ? lockInSlotOf(entry, this.#keyPrefix) : `${entry}:lock`,
      channel: `cachefence:${this.#keyPrefix}${entry}`,
    };
  }
}

/**
 * A lock name that a Cluster keeps in the slot of its entry, so that one script may touch both.
 *
 * An entry key with a hash tag shares it with `<entry>:lock`; one without is itself the tag of `{<entry>}:lock`. Neither
 * holds for keys with a stray brace (`{}x`, `odd}key`): they get the first small number whose slot is theirs.
 */
export function lockInSlotOf(entry: string, keyPrefix = ""): string {
  const slot = slotOf(keyPrefix + entry);
  for (const name of candidates(entry, keyPrefix)) {
    if (slotOf(keyPrefix + name) === slot) return name;
  }
  throw new Error("unreachable: some number has every slot");
}

function* candidates(entry: string, keyPrefix: string): Generator<string> {
  const hasTag = hashTagOf(keyPrefix + entry) !== undefined;
  yield hasTag ? `${entry}:lock` : `{${keyPrefix}${entry}}:lock`;
  // The second form serves a prefix that has opened the tag already.
  for (let number = 0; ; number++) {
    yield `{${String(number)}}${entry}:lock`;
    yield `${String(number)}}${entry}:lock`;
  }
}

function hashTagOf(key: string): string | undefined {
  const open = key.indexOf("{");
  const close = open === -1 ? -1 : key.indexOf("}", open);
  return close > open + 1 ? key.slice(open + 1, close) : undefined;
}

/** Redis Cluster's hash slot: CRC16-CCITT (XMODEM) of the hash tag, or of the whole key, modulo 16384. */
export function slotOf(key: string): number {
  let crc = 0;
  for (const byte of Buffer.from(hashTagOf(key) ?? key)) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
  }
  return crc % 16384;
}
