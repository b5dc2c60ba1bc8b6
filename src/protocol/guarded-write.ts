import { createHash } from "node:crypto";
import type { KeyNames } from "./key-names.js";

/** What the lock must hold for a write to happen. */
export type LockCondition =
  /** This value and no other. */
  | { readonly is: string }
  /** A value that begins so. */
  | { readonly beginsWith: string }
  /** Anything, or nothing: the write is a fence of its own. */
  | "any";

/** Commands by what they touch. Only these four verbs are ever written. */
export type Write =
  | { readonly verb: "del"; readonly on: "lock" | "entry"; readonly args: readonly [] }
  | { readonly verb: "set"; readonly on: "lock"; readonly args: readonly [value: string, px: "PX", leaseMs: string] }
  | { readonly verb: "pexpire"; readonly on: "lock" | "entry"; readonly args: readonly [ms: string] }
  | { readonly verb: "hset"; readonly on: "entry"; readonly args: readonly (string | Buffer)[] };

export type WakeUpNews = "stored" | "freed";

/**
 * Compare and act as one step: if the lock holds what it must, all writes happen, in order, and then the wake-up is
 * published; else none does. Run by the script below, where a failing write to the entry does not keep those to the lock
 * from happening; or, where scripting is denied, by WATCH/MULTI, which is refused as a whole.
 */
export interface GuardedWrite {
  readonly names: KeyNames;
  readonly condition: LockCondition;
  readonly writes: readonly Write[];
  readonly news?: WakeUpNews;
}

/** `"foreign"`: the entry or the lock is not cachefence's, and nothing was changed. */
export type GuardedOutcome = "done" | "refused" | "foreign";

/** A hash is an entry if it has this field. */
export const ENTRY_MARK = "v";

export function touchesEntry(write: GuardedWrite): boolean {
  return write.writes.some((one) => one.on === "entry");
}

export function holds(condition: LockCondition, held: string | null): boolean {
  if (condition === "any") return true;
  if (held === null) return false;
  return "is" in condition ? held === condition.is : held.startsWith(condition.beginsWith);
}

// Nothing is written before all is checked: scripts do not roll back. The entry comes before the lock, because Redis asks
// for memory only before a script's first write. The writes go through pcall, so that one that fails (out of memory) still
// frees the lock and wakes its waiters; PUBLISH too, so that a denied channel costs nothing. Only numbers and strings are
// returned: ioredis-mock can return no others.
const SCRIPT = `
-- KEYS[1] lock; KEYS[2] entry, if that is written
-- ARGV[1] "any", "is" or "beginsWith"; ARGV[2] what the lock must hold
-- ARGV[3] channel, or "" for no wake-up; ARGV[4] the news
-- ARGV[5..] the writes, those on the entry first, each: number of words, verb, index of its key, arguments
-- returns "done", "refused", "foreign", or the error of the write that failed
local held = redis.call("GET", KEYS[1])
local isHeld = type(held) == "string"
if ARGV[1] == "any" then
  if isHeld and redis.call("PTTL", KEYS[1]) == -1 then return "foreign" end
elseif not isHeld then
  return "refused"
elseif ARGV[1] == "is" then
  if held ~= ARGV[2] then return "refused" end
elseif string.sub(held, 1, #ARGV[2]) ~= ARGV[2] then
  return "refused"
end
if KEYS[2] and redis.call("HEXISTS", KEYS[2], "${ENTRY_MARK}") == 0 and redis.call("EXISTS", KEYS[2]) == 1 then
  return "foreign"
end
local news = ARGV[4]
local failure = nil
local at = 5
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  if not failure or ARGV[at + 2] == "1" then
    local words = { ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])] }
    for i = 3, count do words[i] = ARGV[at + i] end
    local reply = redis.pcall(unpack(words))
    if type(reply) == "table" and reply.err then
      failure = failure or reply.err
      news = "freed"
    end
  end
  at = at + count + 1
end
if ARGV[3] ~= "" then redis.pcall("PUBLISH", ARGV[3], news) end
return failure or "done"
`;

export const script = { text: SCRIPT, sha1: createHash("sha1").update(SCRIPT).digest("hex") };

/** The keys that a write touches: an ACL may deny others. */
export function keysOf(write: GuardedWrite): string[] {
  return touchesEntry(write) ? [write.names.lock, write.names.entry] : [write.names.lock];
}

/** ARGV of the script. */
export function scriptArguments(write: GuardedWrite, canPublish: boolean): (string | Buffer)[] {
  const { names, condition, writes, news } = write;
  const [kind, value] =
    condition === "any" ? ["any", ""] : "is" in condition ? ["is", condition.is] : ["beginsWith", condition.beginsWith];
  return [
    kind,
    value,
    news !== undefined && canPublish ? names.channel : "",
    news ?? "",
    ...writes.flatMap(({ verb, on, args }) => [String(args.length + 2), verb, on === "lock" ? "1" : "2", ...args]),
  ];
}
