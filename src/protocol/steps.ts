import type { KeyNames } from "./key-names.js";
import type { Token } from "./token.js";

/** An entry as it is written. */
export interface EncodedEntry {
  readonly value: Buffer;
  readonly deltaSeconds: number;
  readonly expirySeconds: number;
  readonly tags: string;
  /** How long Redis keeps it. */
  readonly keepMs: number;
}

/** Nothing can be served; or an entry at hand is due, and nobody waits for its refresh but who makes it. */
export type Purpose = "fill" | "refresh";

export interface ClaimRequest {
  /** This claim's part of the token. */
  readonly part: string;
  readonly leaseMs: number;
  readonly purpose: Purpose;
  /** Finding this entry again is no answer. */
  readonly atHand: { readonly deltaSeconds: number; readonly expirySeconds: number } | undefined;
  readonly tags: string;
  /** What is there has been found before, and could not be read: it is no answer. */
  readonly isUnreadable: boolean;
  /** The lock that is taken over because its holder has taken too long. */
  readonly outwaited: string | undefined;
  /** The lock whose holder was silent at the last look. */
  readonly silent: string | undefined;
  /** How long a fill waits in the audience; 0: nobody would hear what it is told. */
  readonly waitMs: number;
}

/**
 * What a claim found, and did:
 * - found: a valid entry; nothing is locked, and nothing of it was read;
 * - mine: the lock, free or taken over, or got already by this very claim, sent before;
 * - held: somebody has it. Whoever fills waits in the audience now. `silent`: the holder's mailbox has gone.
 */
export type ClaimAnswer =
  | { readonly kind: "found" }
  | { readonly kind: "mine"; readonly token: Token; readonly how: "free" | "patience" | "silence" }
  | {
      readonly kind: "held";
      readonly lock: string;
      readonly leaseLeftMs: number;
      readonly by: "holder" | "silent" | "pause";
    }
  | { readonly kind: "foreign" };

/** `taken`: by somebody who took over. Whoever has lost the lock waits in the audience for the next store. */
export type RenewAnswer =
  { readonly kind: "done" } | { readonly kind: "taken"; readonly lock: string } | { readonly kind: "lost" };

/** No copy has a longer lease (`memoryLease`), whatever the audience says: anybody who may write to it may say anything. */
export const LONGEST_LEASE_MS = 60_000;

/** A copy in another process, and how long it may still be served there. */
export interface CopyHolder {
  readonly member: string;
  readonly leaseLeftMs: number;
}

export type FenceAnswer =
  { readonly kind: "done"; readonly copies: readonly CopyHolder[] } | { readonly kind: "foreign" };

/** `"locked"`: done, but the lock may not be freed; `"foreign"`: a name is not cachefence's, and nothing was changed. */
export type StoreAnswer = "done" | "locked" | "refused" | "foreign";

/**
 * What is done to a key in one step, so that nobody can come in between: by script, or, where scripting is denied, by WATCH
 * and MULTI. Rejects with the client's own error; deadlines and outages are the link's business.
 */
export interface Steps {
  claim(names: KeyNames, request: ClaimRequest): Promise<ClaimAnswer>;
  store(names: KeyNames, token: Token, entry: EncodedEntry): Promise<StoreAnswer>;
  /** Frees the lock, or leaves a pause of this length in its place. */
  free(names: KeyNames, token: Token, pauseMs: number): Promise<"done" | "refused">;
  /** Sets the lease anew; the lock holds `grown` from then on, as it may do already. */
  renew(names: KeyNames, token: Token, grown: Token, leaseMs: number, waitMs: number): Promise<RenewAnswer>;
  /** Removes the entry, or overwrites it; and its lock. */
  fence(names: KeyNames, fence: string, entry: EncodedEntry | undefined): Promise<FenceAnswer>;
  /** The tag's state: made if `kept` is undefined and there is none; then, or if it still is `kept`, kept for this long. */
  tag(names: KeyNames, kept: string | undefined, keepMs: number): Promise<string>;
}
