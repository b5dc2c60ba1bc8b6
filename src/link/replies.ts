/**
 * What an error that came out of the client says:
 * - `"key"`: Redis answered, about the key or the permissions for it. Trying again changes nothing; callers must see it.
 * - `"scripting-denied"`: the server has no EVAL for this user. The same is possible by WATCH.
 * - `"no-script"`: it does not know the script by this name (any more). EVAL brings it.
 * - `"passing"`: it refuses work now (read-only, out of memory, loading, too few replicas, ...). Later it may not.
 * - `"no-reply"`: not Redis' word at all, but the client's or the network's.
 */
export type ErrorKind = "key" | "scripting-denied" | "no-script" | "passing" | "no-reply";

// In the order in which they are tried, each on the words without what a script's error is wrapped in. The versions are
// those that were seen to say so; 6.2, 7.0, 7.4 and 8.0 are of Redis, 8.0v and 9.1v of Valkey.
const KINDS: readonly (readonly [ErrorKind, RegExp])[] = [
  // Every version: "NOSCRIPT No matching script. Please use EVAL."
  ["no-script", /^NOSCRIPT\b/],
  // Renamed away. 6.2: "ERR unknown command `evalsha`, with args ..."; later: "ERR unknown command 'evalsha', with args ..."
  ["scripting-denied", /^ERR unknown command ['`"]?eval(?:sha)?\b/i],
  // By ACL. 6.2, 7.0: "NOPERM this user has no permissions to run the 'eval' command"; 7.4 on: "NOPERM User u has ..."
  ["scripting-denied", /^NOPERM\b.* the '?eval(?:sha)?'? command/i],
  // A command or a key that an ACL denies: "NOPERM ...". The wrong type: "WRONGTYPE ...".
  ["key", /^(?:NOPERM|WRONGTYPE)\b/],
  // The same, of a command in a script. 7.0: "ERR The user executing the script can't run this command or subcommand",
  // "... can't access at least one of the keys mentioned in the command arguments"; 6.2 without "ERR"
  ["key", /^(?:ERR )?The user executing the script can't (?:run this command|access at least one of the keys)/],
  // 7.4, 8.0, 8.0v, 9.1v: "ERR ACL failure in script: User u has no permissions to run the 'hset' command",
  // "... No permissions to access a key"
  ["key", /^(?:ERR )?ACL failure in script:/],
  // Anything else that begins with a code, as replies do. "ECONNRESET" and its kin are the network's.
  ["passing", /^(?!E(?:CONN|HOST|NET|TIMEDOUT|PIPE|NOTFOUND|ADDR))[A-Z][A-Z0-9]+\b/],
];

// 6.2 says where a script failed in front of its error, and puts back the dash of the protocol. Raised by redis.call:
// "ERR Error running script (call to f_<sha1>): @user_script:29: @user_script: 29: -OOM ..."; handed back by redis.pcall:
// "@user_script: 29: -OOM ..."
const IN_FRONT = /^(?:ERR Error running script(?: \(call to \w+\))?: )?(?:@user_script: ?\d+: )*-?/;
// 7.0 and later say it behind: "OOM command not allowed ... script: <sha1>, on @user_script:29."; 9.1v without the sha1.
const BEHIND = / script: (?:[0-9a-f]{40}, )?on @user_script:\d+\.$/;

/** The error in the words of Redis, without those of the script in which it happened. */
export function wordsOf(message: string): string {
  return message.replace(IN_FRONT, "").replace(BEHIND, "");
}

export function kindOf(error: unknown): ErrorKind {
  if (!(error instanceof Error)) return "no-reply";
  const words = wordsOf(error.message);
  const kind = KINDS.find(([, pattern]) => pattern.test(words))?.[0];
  if (kind !== undefined) return kind;
  // What a script says without a code: 6.2's "Unknown Redis command called from Lua script".
  return words === error.message ? "no-reply" : "passing";
}

/** The keys of one command must share a slot, and do not: the server is one of a Cluster. */
export function isCrossSlot(error: unknown): boolean {
  return error instanceof Error && /\bCROSSSLOT\b/.test(error.message);
}

/** The same error, if it is in Redis' words already; else one that is, with the original as its cause. */
export function inRedisWords(error: Error): Error {
  const words = wordsOf(error.message);
  if (words === error.message) return error;
  const plain = new Error(words, { cause: error });
  plain.name = error.name;
  return plain;
}

/** What Redis says to a command that it has put into a transaction instead of running it. No reply of ours reads so. */
export function isQueued(reply: unknown): boolean {
  return reply === "QUEUED" || (Buffer.isBuffer(reply) && reply.length === 6 && reply.toString() === "QUEUED");
}

/** A key of another type than the command is for. */
export function isWrongType(error: unknown): boolean {
  return error instanceof Error && error.message.includes("WRONGTYPE");
}
