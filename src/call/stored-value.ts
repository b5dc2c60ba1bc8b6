import { SerializationError } from "../errors.js";
import type { CopyPlan } from "./json-copy.js";
import { copyJson } from "./json-copy.js";

/** What callers get of a value that has been decoded: all the same one, a copy each, or nothing (they decode again). */
export type Sharing = "same" | CopyPlan | "none";

/** How the values of one cache are read. */
export interface Decoding {
  decode(bytes: Buffer): unknown;
  /**
   * Asked until it answers, and never again: what it says of one value holds for all from the same bytes. Left out, it is
   * always "none".
   */
  readonly share?: (value: unknown, hasMoreCallers: boolean) => Sharing | undefined;
}

/** A value in its stored form, and what its callers get of it. */
export class StoredValue {
  readonly #key: string;
  readonly #decoding: Decoding;
  #bytes: Buffer | undefined;
  #wasTaken = false;
  // What the callers share is decided once, be it nothing: all get the original, or it is nobody's and has a plan.
  #isDecided: boolean;
  #original: unknown;
  #plan: CopyPlan | undefined;
  #isSame = false;

  constructor(key: string, bytes: Buffer, decoding: Decoding) {
    this.#key = key;
    this.#bytes = bytes;
    this.#decoding = decoding;
    this.#isDecided = decoding.share === undefined;
  }

  /** What it still holds of its stored form. */
  get bytes(): Buffer | undefined {
    return this.#bytes;
  }

  /** One caller's value. Throws a SerializationError if the bytes cannot be read. */
  take(): unknown {
    // Every hit from memory comes here.
    if (this.#plan !== undefined) return copyJson(this.#original as object, this.#plan);
    return this.#isSame || this.#bytes === undefined ? this.#original : this.#takeDecoded(this.#bytes);
  }

  /**
   * Makes it ready to be kept in memory for many callers: decoded now, where they will share what comes of it. From then
   * on it holds that or the bytes, and not both.
   */
  settle(): void {
    if (this.#bytes === undefined) return;
    try {
      if (!this.#isDecided) this.#decode(this.#bytes, true);
    } catch {
      // Whoever takes it is told.
    }
    this.#bytes = this.#isSame || this.#plan !== undefined ? undefined : inMemoryOfItsOwn(this.#bytes);
  }

  #takeDecoded(bytes: Buffer): unknown {
    const value = this.#decode(bytes, this.#wasTaken);
    this.#wasTaken = true;
    return this.#plan === undefined ? value : copyJson(value as object, this.#plan);
  }

  #decode(bytes: Buffer, hasMoreCallers: boolean): unknown {
    try {
      const value = this.#decoding.decode(bytes);
      if (!this.#isDecided) this.#decide(value, this.#decoding.share?.(value, hasMoreCallers));
      return value;
    } catch (error) {
      throw new SerializationError(this.#key, "deserialize", error);
    }
  }

  #decide(value: unknown, sharing: Sharing | undefined): void {
    if (sharing === undefined) return;
    this.#isDecided = true;
    if (sharing === "none") return;
    this.#original = value;
    if (sharing === "same") this.#isSame = true;
    else this.#plan = sharing;
  }
}

/** A reply is a slice of what came from the socket: to keep it would keep the replies around it. */
function inMemoryOfItsOwn(bytes: Buffer): Buffer {
  if (bytes.length === bytes.buffer.byteLength) return bytes;
  const own = Buffer.allocUnsafeSlow(bytes.length);
  own.set(bytes);
  return own;
}
