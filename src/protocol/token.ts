/**
 * Proof of who holds a lock: the lock's whole value. `cachefence:<part>`, or, of a lock that was taken over, the token that
 * was taken over, a colon and the taker's part. A part is `<L|N><member>-<nonce>`: the member is the holder's mailbox, and
 * L says that it has been live, so that its silence is a sign of death. A holder whose mailbox goes live only after it has
 * got its lock adds a part that says so, as if it took over from itself.
 *
 * That decides:
 * - who may store: whoever's token the lock begins with, so its holder and those whom it was taken from: the first of them
 *   to finish is stored. A fence, a store or the end of a lease drops the lock, so no late rebuild slips past them;
 * - who may renew and free: only the one whose token it is, so a taker's lock is safe from the one it was taken from.
 *
 * Each claim and each takeover has a nonce of its own. One whose reply was lost may be sent again after a fence, and brings
 * its token back then. No recompute has begun under that token, for its reply is still out; and the token of whoever had
 * taken it over does not come back with it, for the lock does not begin with that.
 */
export type Token = string & { readonly brand: "token" };

// Tells our tokens from Python's, which are bare hex.
const ROOT = "cachefence";

/**
 * Longer locks do not grow: a taker's part takes the place of the last one. So a source that hangs for ever has no lock
 * grow for ever; the first to have begun may still store, and whoever holds it. About 64 parts.
 */
export const LONGEST_GROWING = 2000;

/** A pause ends so: nobody rebuilds under it. */
export const PAUSE = ":P";

const PART = /^([LN])([0-9a-f]{16})-[0-9a-f]+$/;

export function partOf(member: string, isLive: boolean, nonce: string): string {
  return `${isLive ? "L" : "N"}${member}-${nonce}`;
}

/** The token of whoever takes a lock that is free. */
export function firstToken(part: string): Token {
  return `${ROOT}:${part}` as Token;
}

/** The token of whoever takes this lock over. The scripts do the same. */
export function takenToken(held: string, part: string): Token {
  const kept = held.length > LONGEST_GROWING ? held.slice(0, Math.max(0, held.lastIndexOf(":"))) : held;
  return `${kept}:${part}` as Token;
}

/** True if this lock is of that token's line: it, or what has taken it over. */
export function isOfLine(lock: string, token: string): boolean {
  return lock === token || lock.startsWith(`${token}:`);
}

/** True if silence of the holder's mailbox is a sign of death. */
export function saysLive(held: string): boolean {
  return PART.exec(held.slice(held.lastIndexOf(":") + 1))?.[1] === "L";
}

/** The member that holds this lock; undefined for Python's holders, which tell nobody when they are done. */
export function holderOf(held: string): string | undefined {
  return PART.exec(held.slice(held.lastIndexOf(":") + 1))?.[2];
}
