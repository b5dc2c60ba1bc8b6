// What a client or a script rejects with, told apart by the text: the classes differ from one client to the next. Inside a
// script, each server version has words of its own for the same thing.

// Redis 6.2 puts this in front of an error that a script hands on, and a minus before the error's own code.
const SCRIPT_PREFIX = /^(?:ERR Error running script [^:]*: )?(?:@?user_script: ?\d+: )+-?/;

/** The text without what the server has put in front of it. */
function plain(message: string): string {
  return message.replace(SCRIPT_PREFIX, "").replace(/^-/, "");
}

/** The same error with a message that begins with its code. */
export function withoutPrefix(error: Error): Error {
  const message = plain(error.message);
  return message === error.message ? error : new Error(message, { cause: error });
}

/** True for what Redis answered: it begins with an upper-case code. The client's own errors ("Connection is closed.") do not. */
export function isReply(error: unknown): boolean {
  return error instanceof Error && /^[A-Z]{2,}\b/.test(plain(error.message));
}

// A denied key or command, by itself or inside a script (7.0; 7.2 and newer); a key of another type.
const OF_THE_KEY =
  /^NOPERM|WRONGTYPE|can't (?:run this command|access at least one of the keys)|ACL failure in script: User/;

/**
 * True for an error about the key itself, or the user's rights: it comes again however often one asks. Every other passes
 * (NOREPLICAS, MISCONF, BUSY, LOADING, READONLY, CLUSTERDOWN, OOM, and whatever a newer server invents).
 */
export function concernsTheKey(error: unknown): boolean {
  return error instanceof Error && OF_THE_KEY.test(plain(error.message));
}

// Renamed away: "ERR unknown command 'evalsha'"; denied by ACL: "NOPERM ... 'evalsha' command".
const SCRIPTING_DENIED = /^(?:ERR unknown command|NOPERM).*\beval(?:sha)?\b/i;

export function isScriptingDenied(error: unknown): boolean {
  return error instanceof Error && SCRIPTING_DENIED.test(error.message);
}

/** The keys of one command must share a slot, and do not: the server is one of a Cluster. */
export function isCrossSlot(error: unknown): boolean {
  return error instanceof Error && /\bCROSSSLOT\b/.test(error.message);
}
