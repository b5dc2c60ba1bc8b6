/**
 * What each step of the protocol sends to Redis. A script counts as one command. Adjust these when the protocol changes:
 * every table of the simulation follows.
 */

/** Every request, whatever comes of it: the read. It is the load of a cache and no cost of a rebuild. */
export const READ_COMMANDS = 1; // HMGET

/** A try for the lock, and the look at the entry that goes with it. */
export const CLAIM_COMMANDS = 3; // SET NX, GET, HMGET

/** A holder, from its first read to the stored entry. */
export const HOLDER_COMMANDS = READ_COMMANDS + CLAIM_COMMANDS + 1; // .., EVALSHA

/** A waiter's look at the lock and the entry: after it has subscribed, and as its safety poll. */
export const LOOK_COMMANDS = 3; // GET, PTTL, HMGET

/** A process that waits, from its first read to the value it was woken for; its further callers join that wait. */
export const WAITING_PROCESS_COMMANDS = READ_COMMANDS + CLAIM_COMMANDS + 1 + LOOK_COMMANDS + 1 + 1; // SUBSCRIBE, HMGET, UNSUBSCRIBE

/** Wake-up messages that Redis sends to one waiting process. */
export const WAITING_PROCESS_MESSAGES = 1;

/** An early refresh that finds the lock taken, beyond the read that every request makes. */
export const LOST_CLAIM_COMMANDS = CLAIM_COMMANDS;

/**
 * A request that is served an expired value while another process rebuilds, beyond its read: it too tries for the lock,
 * unless its process is just trying.
 */
export const STALE_SERVE_COMMANDS = CLAIM_COMMANDS;

/** A takeover: compare-and-set of the lock; and the taker's store, refused if the old holder was first. */
export const TAKEOVER_COMMANDS = 2; // EVALSHA, EVALSHA

/** A renewal of the lease. */
export const RENEWAL_COMMANDS = 1; // EVALSHA

/** A cache without a lock: read, and one command to store. */
export const PLAIN_REBUILD_COMMANDS = 2;

/** How often a subscribed waiter looks, in case its message was lost. */
export const SAFETY_POLL_SECONDS = 1;

/** A waiter without a subscription: its first pause, the factor from one pause to the next, the longest. */
export const FALLBACK_POLL_SECONDS = { first: 0.01, factor: 1.5, longest: 0.05 } as const;

/** Default `lockTimeout`; the lease is renewed every third of it. */
export const LEASE_SECONDS = 10;

/** Default `waitForLock`. */
export const WAIT_FOR_LOCK_SECONDS = 5;

/** Round trips from a holder's call to its stored entry, beside the recompute: read, claim, store. */
export const HOLDER_ROUND_TRIPS = 3;

/** Round trips from the stored entry to a waiter's value: half a one for the message, one for the read. */
export const WAKE_UP_ROUND_TRIPS = 1.5;

/** Assumption: one round trip between a process and Redis. */
export const ROUND_TRIP_SECONDS = 0.0005;

/** Assumption, to be measured: simple commands a second that one primary carries on its core. */
export const PRIMARY_COMMANDS_PER_SECOND = 100_000;

/** Assumption, to be measured: published messages a second that one primary hands to its subscribers. */
export const PRIMARY_MESSAGES_PER_SECOND = 200_000;

/** Assumption: the store script costs as much of Redis' time as this many simple commands, its messages not counted. */
export const STORE_SCRIPT_WEIGHT = 5;
