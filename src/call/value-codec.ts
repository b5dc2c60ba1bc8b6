import { SerializationError } from "../errors.js";
import { freezeDeeply } from "./freeze.js";
import type { JsonCopier } from "./json-copy.js";
import { copierOf } from "./json-copy.js";

/** Value to stored bytes and back; failures carry the key. */
export interface ValueCodec {
  readonly encode: (key: string, value: unknown) => Buffer;
  /** What the callers who share these bytes are given, each by a `take` of its own. */
  readonly open: (key: string, bytes: Buffer) => StoredValue;
}

/** One stored value, in the hands of all who share a read, an outcome or a copy in memory. */
export interface StoredValue {
  /** One caller's value. Throws SerializationError. */
  take(): unknown;
}

// JSON has no undefined. Other readers of the key see null, because JSON allows white space around it.
const UNDEFINED = "null ";

function serializeJson(value: unknown): string {
  if (value === undefined) return UNDEFINED;
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new TypeError(`JSON has no form for a ${typeof value}`);
  return text;
}

function parseJson(stored: Buffer): unknown {
  const text = stored.toString();
  return text === UNDEFINED ? undefined : (JSON.parse(text) as unknown);
}

// So many callers have the value parsed for each; the next has an original made, of which the rest are given copies. Making it
// costs a part of what it saves.
const PARSED_FOR = 2;

/** JSON, for callers who share nothing. */
class OwnJson implements StoredValue {
  readonly #key: string;
  // Let go once there is an original.
  #bytes: Buffer | undefined;
  #copy: JsonCopier | undefined;
  #taken = 0;

  constructor(key: string, bytes: Buffer) {
    this.#key = key;
    this.#bytes = bytes;
  }

  take(): unknown {
    if (this.#copy !== undefined) return this.#copy();
    const value = decoded(this.#key, this.#bytes!, parseJson);
    if (this.#taken++ !== PARSED_FOR) return value;
    // The original is nobody's: this caller is given the first copy. A value that is parsed sooner than copied stays bytes.
    this.#copy = copierOf(value);
    if (this.#copy === undefined) return value;
    this.#bytes = undefined;
    return this.#copy();
  }
}

/** Read by a function of the user's, which may hand the buffer on or write to it: each caller has one of its own. */
class OwnCustom implements StoredValue {
  readonly #key: string;
  readonly #bytes: Buffer;
  readonly #deserialize: (stored: Buffer) => unknown;

  constructor(key: string, bytes: Buffer, deserialize: (stored: Buffer) => unknown) {
    this.#key = key;
    this.#bytes = bytes;
    this.#deserialize = deserialize;
  }

  take(): unknown {
    return decoded(this.#key, Buffer.from(this.#bytes), this.#deserialize);
  }
}

/** One object for all callers, deeply frozen; or, if it holds something that cannot be frozen, one for each. */
class Frozen implements StoredValue {
  readonly #own: StoredValue;
  #state: "new" | "shared" | "own" = "new";
  #shared: unknown;

  constructor(own: StoredValue) {
    this.#own = own;
  }

  take(): unknown {
    if (this.#state === "shared") return this.#shared;
    const value = this.#own.take();
    if (this.#state === "own") return value;
    this.#state = freezeDeeply(value) ? "shared" : "own";
    if (this.#state === "shared") this.#shared = value;
    return value;
  }
}

type Deserialize = (stored: Buffer) => unknown;

/** The same codec for all caches that read and write alike: what one of them keeps in memory, the others serve. */
export function createValueCodec(
  serialize: ((value: unknown) => string | Uint8Array) | undefined,
  deserialize: Deserialize | undefined,
  { freezes }: { readonly freezes: boolean },
): ValueCodec {
  if (serialize === undefined || deserialize === undefined) return freezes ? frozenJson : ownJson;
  const known = customs.get(deserialize);
  if (known?.serialize === serialize && known.freezes === freezes) return known.codec;
  const open = (key: string, bytes: Buffer): StoredValue => new OwnCustom(key, bytes, deserialize);
  const codec = { encode: encoder(serialize), open: freezes ? frozen(open) : open };
  customs.set(deserialize, { serialize, freezes, codec });
  return codec;
}

function encoder(serialize: (value: unknown) => unknown) {
  return (key: string, value: unknown): Buffer => {
    try {
      const stored = refusePromise("serializer", serialize(value));
      if (typeof stored === "string") return Buffer.from(stored);
      // Copied, for the serializer may use its memory again before Redis has taken the bytes.
      if (stored instanceof Uint8Array) return Buffer.from(stored);
      throw new TypeError(`Expected the serializer to return a string or Uint8Array, got ${typeof stored}`);
    } catch (error) {
      throw new SerializationError(key, "serialize", error);
    }
  };
}

function decoded(key: string, bytes: Buffer, deserialize: Deserialize): unknown {
  try {
    return refusePromise("deserializer", deserialize(bytes));
  } catch (error) {
    throw new SerializationError(key, "deserialize", error);
  }
}

function refusePromise(name: string, result: unknown): unknown {
  if (!(result instanceof Promise)) return result;
  // Refused, so nobody waits for it.
  result.catch(() => undefined);
  throw new TypeError(`Expected the ${name} to return its result, got a promise of it`);
}

function frozen(open: ValueCodec["open"]): ValueCodec["open"] {
  return (key, bytes) => new Frozen(open(key, bytes));
}

const ownJson: ValueCodec = { encode: encoder(serializeJson), open: (key, bytes) => new OwnJson(key, bytes) };
const frozenJson: ValueCodec = { encode: ownJson.encode, open: frozen(ownJson.open) };

interface Custom {
  readonly serialize: unknown;
  readonly freezes: boolean;
  readonly codec: ValueCodec;
}

// Deserializer -> the last codec made of it.
const customs = new WeakMap<Deserialize, Custom>();
