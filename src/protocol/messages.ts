import { secondsIn } from "./entry.js";
import { holderOf } from "./token.js";

/**
 * What the mailboxes of a fleet are told. A message is a line of words, then the bytes whose lengths it names:
 *
 *     freed <bytes of key>\n<key>                  the lock of this key is free: claim
 *     stored <bytes of key>\n<key>                 its entry is there: read it
 *     stored <bytes of key> <token> <delta> <expiry> <bytes of tags>\n<key><tags><value>
 *     fenced <bytes of key> <fence> <member>\n<key>      drop your copy of it, and confirm to this member
 *     confirmed <fence> <member>\n                 this member has dropped its copy
 *
 * A key is named as Redis knows it, with the namespace and the client's `keyPrefix`. What cannot be read is ignored:
 * anybody may publish to a channel.
 */
export type Message =
  | { readonly kind: "freed"; readonly key: string }
  | { readonly kind: "stored"; readonly key: string; readonly told: ToldEntry | undefined }
  | { readonly kind: "fenced"; readonly key: string; readonly fence: string; readonly member: string }
  | { readonly kind: "confirmed"; readonly fence: string; readonly member: string };

/** An entry inside a message, with the token under which it was stored. */
export interface ToldEntry {
  readonly token: string;
  readonly value: Buffer;
  readonly deltaSeconds: number;
  readonly expirySeconds: number;
  readonly tags: string;
}

export function channelOf(member: string): string {
  return `cachefence:${member}`;
}

export function freed(key: string): string {
  return `freed ${String(Buffer.byteLength(key))}\n${key}`;
}

export function stored(key: string): string {
  return `stored ${String(Buffer.byteLength(key))}\n${key}`;
}

export function fenced(key: string, fence: string, member: string): string {
  return `fenced ${String(Buffer.byteLength(key))} ${fence} ${member}\n${key}`;
}

export function confirmed(fence: string, member: string): string {
  return `confirmed ${fence} ${member}\n`;
}

const LINE_FEED = 10;
const MEMBER = /^[0-9a-f]{16}$/;
const LENGTH = /^\d{1,9}$/;
/** A line and a key of any sense, and a value that may be told, are far shorter; text may not be as long as bytes may. */
const LONGEST_MESSAGE_BYTES = 1_048_576;

/** The message in these bytes; undefined if they are none. */
export function parseMessage(bytes: Buffer): Message | undefined {
  if (bytes.length > LONGEST_MESSAGE_BYTES) return undefined;
  const end = bytes.indexOf(LINE_FEED);
  if (end === -1) return undefined;
  const [kind, ...words] = bytes.toString("latin1", 0, end).split(" ");
  const body = bytes.subarray(end + 1);
  if (kind === "confirmed") {
    const [fence, member, ...more] = words;
    if (fence === undefined || member === undefined || more.length > 0 || !MEMBER.test(member)) return undefined;
    return { kind, fence, member };
  }
  const [keyLength = "", ...rest] = words;
  if (!LENGTH.test(keyLength) || body.length < Number(keyLength)) return undefined;
  const key = body.toString("utf8", 0, Number(keyLength));
  const isWhole = body.length === Number(keyLength);
  if (kind === "freed" && isWhole && rest.length === 0) return { kind, key };
  if (kind === "fenced" && isWhole && rest.length === 2) {
    const [fence = "", member = ""] = rest;
    return MEMBER.test(member) ? { kind, key, fence, member } : undefined;
  }
  if (kind !== "stored") return undefined;
  if (isWhole && rest.length === 0) return { kind, key, told: undefined };
  const told = parseTold(rest, body.subarray(Number(keyLength)));
  return told && { kind, key, told };
}

function parseTold(words: readonly string[], body: Buffer): ToldEntry | undefined {
  const [token = "", delta = "", expiry = "", tagsLength = ""] = words;
  if (
    words.length !== 4 ||
    holderOf(token) === undefined ||
    !LENGTH.test(tagsLength) ||
    body.length < Number(tagsLength)
  )
    return undefined;
  const deltaSeconds = secondsIn(delta);
  const expirySeconds = secondsIn(expiry);
  if (!(deltaSeconds >= 0 && deltaSeconds < Infinity && expirySeconds >= 0 && expirySeconds < Infinity))
    return undefined;
  const tags = body.toString("utf8", 0, Number(tagsLength));
  return { token, value: body.subarray(Number(tagsLength)), deltaSeconds, expirySeconds, tags };
}
