import { SerializationError } from "../errors.js";
import { freezeIfProtected, freezeJson } from "./freeze.js";
import { isObject, planCopy } from "./json-copy.js";
import type { Decoding } from "./stored-value.js";
import { StoredValue } from "./stored-value.js";

/** Value to stored bytes and back; failures carry the key. */
export interface ValueCodec {
  encode(key: string, value: unknown): Buffer;
  /** For all callers of one stored value: what is decoded for them is kept in it, and nothing by the codec. */
  open(key: string, bytes: Buffer): StoredValue;
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

const OWN_JSON: Decoding = {
  decode: parseJson,
  share(value, hasMoreCallers) {
    if (!isObject(value)) return "same";
    // A plan costs a quarter of what a copy saves. A single caller is too few for it.
    return hasMoreCallers ? (planCopy(value) ?? "none") : undefined;
  },
};

const FROZEN_JSON: Decoding = {
  decode: parseJson,
  share(value) {
    if (isObject(value)) freezeJson(value);
    return "same";
  },
};

type Deserialize = (stored: Buffer) => unknown;

function decodingOf(deserialize: Deserialize, freezes: boolean): Decoding {
  // It may hand its buffer on or write to it: each caller's is another.
  const decode = (bytes: Buffer) => refusePromise("deserializer", deserialize(Buffer.from(bytes)));
  if (!freezes) return { decode };
  return { decode, share: (value) => (freezeIfProtected(value) ? "same" : "none") };
}

/** The same codec for all caches that read and write alike: what one of them keeps in memory, the others serve. */
export function createValueCodec(
  serialize: ((value: unknown) => string | Uint8Array) | undefined,
  deserialize: Deserialize | undefined,
  { freezes }: { readonly freezes: boolean },
): ValueCodec {
  if (serialize === undefined || deserialize === undefined) return freezes ? frozenJson : ownJson;
  const known = customs.get(deserialize);
  if (known?.serialize === serialize && known.freezes === freezes) return known.codec;
  const codec = codecOf(serialize, decodingOf(deserialize, freezes));
  customs.set(deserialize, { serialize, freezes, codec });
  return codec;
}

function codecOf(serialize: (value: unknown) => unknown, decoding: Decoding): ValueCodec {
  return { encode: encoder(serialize), open: (key, bytes) => new StoredValue(key, bytes, decoding) };
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

function refusePromise(name: string, result: unknown): unknown {
  if (!(result instanceof Promise)) return result;
  // Refused, so nobody waits for it.
  result.catch(() => undefined);
  throw new TypeError(`Expected the ${name} to return its result, got a promise of it`);
}

const ownJson = codecOf(serializeJson, OWN_JSON);
const frozenJson = codecOf(serializeJson, FROZEN_JSON);

interface Custom {
  readonly serialize: unknown;
  readonly freezes: boolean;
  readonly codec: ValueCodec;
}

// Deserializer -> the last codec made of it.
const customs = new WeakMap<Deserialize, Custom>();
