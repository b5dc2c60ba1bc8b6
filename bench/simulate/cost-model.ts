/**
 * What each step of the protocol sends to Redis. A script counts as one command. Adjust these when the protocol changes:
 * every table of the simulation follows.
 */

/** Every request, whatever comes of it: the read. It is the load of a cache and no cost of a rebuild. */
export const READ_COMMANDS = 1; // HMGET

/** The try for the lock, which also looks: whether the entry is there, who holds the lock, whether that process lives. */
export const CLAIM_COMMANDS = 1; // EVALSHA

/** A holder, from its first read to the stored entry. */
export const HOLDER_COMMANDS = READ_COMMANDS + CLAIM_COMMANDS + 1; // .., EVALSHA

/** A waiter's look after its first: a claim again. */
export const LOOK_COMMANDS = CLAIM_COMMANDS;

/** A process that waits, from its first read to the message with the value; its further callers join that wait. */
export const WAITING_PROCESS_COMMANDS = READ_COMMANDS + CLAIM_COMMANDS;

/** Wake-up messages that Redis sends to one waiting process. */
export const WAITING_PROCESS_MESSAGES = 1;

/** An early refresh that finds the lock taken, beyond the read that every request makes. */
export const LOST_CLAIM_COMMANDS = CLAIM_COMMANDS;

/**
 * A request that is served an expired value while another process rebuilds, beyond its read: it too tries for the lock,
 * unless its process is just trying.
 */
export const STALE_SERVE_COMMANDS = CLAIM_COMMANDS;

/** A takeover: the claim that takes the lock over; and the taker's store, refused if the old holder was first. */
export const TAKEOVER_COMMANDS = CLAIM_COMMANDS + 1; // .., EVALSHA

/** A read that makes a copy in memory: once for each lease of it. */
export const ENLIST_COMMANDS = 1; // EVALSHA

/** A fence, whoever holds a copy. */
export const FENCE_COMMANDS = 1; // EVALSHA

/** What a process that holds a copy adds to a fence: it leaves the audience and confirms. */
export const FENCED_COPY_COMMANDS = 2; // ZREM, PUBLISH

/** It is told, and its confirmation is handed to the fencing process. */
export const FENCED_COPY_MESSAGES = 2;

/** A renewal of the lease. */
export const RENEWAL_COMMANDS = 1; // EVALSHA

/** A cache without a lock: read, and one command to store. */
export const PLAIN_REBUILD_COMMANDS = 2;

/** How often a waiter with a mailbox looks: its message may be lost, or its holder dead. */
export const LOOK_SECONDS = 0.4;

/** A waiter without a mailbox, or behind a holder that cannot publish: its first pause, the factor from one pause to the next, the longest. */
export const FALLBACK_POLL_SECONDS = { first: 0.01, factor: 1.5, longest: 0.05 } as const;

/** Default `lockTimeout`; the lease is renewed every third of it. */
export const LEASE_SECONDS = 10;

/** Default `waitForLock`. */
export const WAIT_FOR_LOCK_SECONDS = 5;

/** Round trips from a holder's call to its stored entry, beside the recompute: read, claim, store. */
export const HOLDER_ROUND_TRIPS = 3;

/** Round trips from the stored entry to a waiter's value: half a one, for the value is in the message (up to 16 kB). */
export const WAKE_UP_ROUND_TRIPS = 0.5;

/** Default `memoryLease`. */
export const MEMORY_LEASE_SECONDS = 1;

/** After a fence of a key its reads make no copies for so many leases: one or two, as two sets of names take turns. */
export const UNCOPIED_LEASES = { least: 1, most: 2 } as const;

/** Assumption: one round trip between a process and Redis. */
export const ROUND_TRIP_SECONDS = 0.0005;

/** Assumption, to be measured: simple commands a second that one primary carries on its core. */
export const PRIMARY_COMMANDS_PER_SECOND = 100_000;

/** Assumption, to be measured: published messages a second that one primary hands to its subscribers. */
export const PRIMARY_MESSAGES_PER_SECOND = 200_000;

/** Assumption: turns of the event loop in a second of a busy process; callers of one turn share a read. */
export const TURNS_PER_SECOND = 2_000;

/**
 * Assumption: the script of a claim, an enlisting or a fence costs as much of Redis' time as this many simple commands,
 * of 10 us each at 100,000 a second. One run on a busy machine, a hundred in a write, had of the server's CPU 88 us for a
 * claim and a store together, 38 us for a fence without holders, 16 to 27 us for an enlisting; 5 us for an HMGET.
 */
export const SCRIPT_WEIGHT = 4;

/** Assumption: likewise the store script, its messages not counted. */
export const STORE_SCRIPT_WEIGHT = 5;
