import { SerializationError } from "../errors.js";
import { copyJson, isQuicklyCopied } from "./json-copy.js";

/** Value to stored bytes and back; failures carry the key. */
export interface ValueCodec {
  encode(key: string, value: unknown): Buffer;
  decode(key: string, stored: Buffer): unknown;
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

function createJsonDeserializer(): (stored: Buffer) => unknown {
  // Callers of one tick share one read and come here one after the other. Where they are many, each is given a copy of an
  // original that nobody else has: that is sooner made than another value is parsed.
  let last: Buffer | undefined;
  let readers = 0;
  let original: { readonly value: unknown } | undefined;
  const forget = (): void => {
    last = original = undefined;
  };
  return (stored) => {
    if (stored !== last) {
      forget();
      last = stored;
      readers = 0;
    }
    if (original !== undefined) return copyJson(original.value);
    const value = parseJson(stored);
    // The check costs a part of what it saves: two readers are too few for it, and a value that fails it has it once.
    if (++readers !== 3 || !isQuicklyCopied(value)) return value;
    original = { value };
    setImmediate(forget);
    return copyJson(value);
  };
}

export function createValueCodec(
  serialize: ((value: unknown) => string | Uint8Array) | undefined,
  deserialize: ((stored: Buffer) => unknown) | undefined,
): ValueCodec {
  return {
    encode: encoder(serialize ?? serializeJson),
    // A reader of the user's may hand the buffer on or write to it, and callers may share one read: each gets a copy.
    decode: decoder(
      deserialize === undefined ? createJsonDeserializer() : (stored) => deserialize(Buffer.from(stored)),
    ),
  };
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

function decoder(deserialize: (stored: Buffer) => unknown) {
  return (key: string, stored: Buffer): unknown => {
    try {
      return refusePromise("deserializer", deserialize(stored));
    } catch (error) {
      throw new SerializationError(key, "deserialize", error);
    }
  };
}

function refusePromise(name: string, result: unknown): unknown {
  if (!(result instanceof Promise)) return result;
  // Refused, so nobody waits for it.
  result.catch(() => undefined);
  throw new TypeError(`Expected the ${name} to return its result, got a promise of it`);
}
