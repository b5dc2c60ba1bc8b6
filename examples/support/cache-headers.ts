import type { CachedEntry } from "cachefence";

/**
 * What a browser and a proxy may know of an answer: how long it is good (`Cache-Control`), how much of that is over (`Age`)
 * and where it came from (`Cache-Status`, RFC 9211). No fence reaches a browser: give it a short time, and one that you can
 * live with after a write.
 */
export function cacheHeaders({ remaining, source }: CachedEntry<unknown>, ttlSeconds: number): Record<string, string> {
  const left = Math.floor(remaining);
  const age = Math.max(0, Math.round(ttlSeconds - remaining));
  const wasAsked = source === "rebuild" || source === "source";
  return {
    // Nobody keeps what is past its expiry already.
    "cache-control": left > 0 ? `public, max-age=${ttlSeconds}` : "no-cache",
    age: String(age),
    "cache-status": `cachefence; ${wasAsked ? "fwd=miss" : "hit"}; ttl=${left}; detail=${source}`,
  };
}
