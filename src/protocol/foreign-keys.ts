import { CacheFenceError } from "../errors.js";
import type { RedisLink } from "../link/redis-link.js";
import { isWrongType } from "../link/replies.js";
import type { Way } from "./conversation.js";
import type { KeyNames } from "./key-names.js";
import { ownerOf } from "./key-names.js";

/** The error of a key, or of the name of its lock or audience, that holds something else than cachefence writes there. */
export async function foreignKeyError(link: RedisLink, names: KeyNames): Promise<Error> {
  const [lock, leaseLeftMs, entry, audience] = await Promise.all([
    link.send((client) => client.type(names.lock)),
    link.send((client) => client.pttl(names.lock)),
    link.send((client) => client.type(names.entry)),
    link.send((client) => client.type(names.audience)),
  ]);
  if (audience !== "none" && audience !== "zset") return foreignKey(names.audience, audience, names.key);
  // Every lock of cachefence has a lease: a string without one (PTTL -1) is somebody's own.
  const isLockOurs = lock === "none" || (lock === "string" && Number(leaseLeftMs) !== -1);
  return isLockOurs ? foreignKey(names.entry, entry, names.key) : foreignKey(names.lock, lock, names.key);
}

function foreignKey(redisKey: string, type: string, key: string): CacheFenceError {
  const shown = JSON.stringify(redisKey);
  const owned = ownerOf(redisKey);
  const collides =
    owned === undefined
      ? ""
      : `. This is the name of the ${owned.what} of ${JSON.stringify(owned.owner)}, so no key of yours may have it, ` +
        "nor another application";
  // It may have gone since.
  const holds = type === "none" ? "held something" : `holds a ${type}`;
  const message = `Redis key ${shown} ${holds} that is not cachefence's${collides}; it was left as it is`;
  return new CacheFenceError(message, key);
}

/** What a caller is shown of an error inside: of a key of another type, which it is. */
export async function explainForeignType(error: unknown, way: Way, names: KeyNames): Promise<unknown> {
  if (error instanceof CacheFenceError || !isWrongType(error)) return error;
  try {
    return await foreignKeyError(way.links.of(names.entry), names);
  } catch {
    return error;
  }
}
