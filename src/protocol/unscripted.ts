import type { RedisClient } from "../link/redis-client.js";
import type { ServerClock } from "../link/server-clock.js";
import { isWrongType } from "../link/replies.js";
import { timeIn } from "../link/server-clock.js";
import type { KeyNames } from "./key-names.js";
import type { Member } from "./mailbox.js";
import { channelOf, fenced, freed, stored } from "./messages.js";
import type { ClaimAnswer, ClaimRequest, CopyHolder, EncodedEntry, FenceAnswer, RenewAnswer, Steps } from "./steps.js";
import type { StoreAnswer } from "./steps.js";
import { LONGEST_LEASE_MS } from "./steps.js";
import type { Token } from "./token.js";
import { PAUSE, firstToken, takenToken } from "./token.js";
import type { Decision, Transaction, WatchConnection, WatchingClient } from "./watch-connection.js";

interface Seen {
  readonly held: string | null;
  readonly leaseLeftMs: number;
  readonly isForeignEntry: boolean;
  readonly isForeignAudience: boolean;
  /** The audience: member, score, member, ... */
  readonly audience: readonly string[];
  /** The server's clock as it saw that; -Infinity if it is not known: then nothing is over. */
  readonly nowMs: number;
}

type Tell = [channel: string, message: string][];

const LONGEST_AUDIENCE_MS = 120_000;

/**
 * The steps without scripting. A claim is commands on the caller's own connection, the lock first and then the look; what
 * compares and acts is a transaction on a connection of the library's own.
 *
 * No message of it holds a value, and its process keeps no copies.
 */
export class WatchedSteps implements Steps {
  readonly #client: RedisClient;
  readonly #watching: WatchConnection;
  readonly #member: Member;
  readonly #clock: ServerClock;
  readonly #timeoutMs: number;

  constructor(client: RedisClient, watching: WatchConnection, member: Member, clock: ServerClock, timeoutMs: number) {
    this.#client = client;
    this.#watching = watching;
    this.#member = member;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  async claim(names: KeyNames, request: ClaimRequest): Promise<ClaimAnswer> {
    const client = this.#client;
    const token = firstToken(request.part);
    // In the audience before it looks: whoever stores after the look tells this member.
    if (request.purpose === "fill" && request.waitMs > 0) this.#join(names, request.waitMs);
    // Who holds the lock is asked rather than taken from the reply of SET: a command whose reply was lost is sent again, and
    // SET NX then fails against our own lock.
    const [, held, left, fields] = await Promise.all([
      client.set(names.lock, token, "PX", request.leaseMs, "NX"),
      client.get(names.lock),
      client.pttl(names.lock),
      client.hmgetBuffer(names.entry, "delta", "expiry", "tags", names.mark),
    ]);
    if (this.#isFound(fields, request)) {
      // If it fails, the lease ends it.
      if (held === token) await this.free(names, token, 0).catch(() => undefined);
      return { kind: "found" };
    }
    if (held === token) return { kind: "mine", token, how: "free" };
    // It came free just after the claim was lost: that is like any holder, and the next look finds it.
    if (held === null) return { kind: "held", lock: "", leaseLeftMs: 0, by: "holder" };
    if (Number(left) === -1) return { kind: "foreign" };
    const isPause = held.endsWith(PAUSE);
    const isSilent = await this.#isSilent(held);
    const isOutwaited = held === request.outwaited;
    const isTaken = isPause ? request.purpose === "fill" : isOutwaited || (isSilent && held === request.silent);
    if (isTaken) {
      const taken = isPause ? token : takenToken(held, request.part);
      if (await this.#replace(names, held, taken, request.leaseMs)) {
        return { kind: "mine", token: taken, how: isPause ? "free" : isOutwaited ? "patience" : "silence" };
      }
    }
    const by = isPause ? "pause" : isSilent ? "silent" : "holder";
    return { kind: "held", lock: held, leaseLeftMs: Number(left), by };
  }

  /** The holder's mailbox has gone. Whatever else is answered means: alive. */
  async #isSilent(held: string): Promise<boolean> {
    const [, member] = /:L([0-9a-f]{16})-[0-9a-f]+$/.exec(held) ?? [];
    if (member === undefined || !this.#member.showsDeath || this.#client.pubsub === undefined) return false;
    const reply = await this.#client.pubsub("NUMSUB", channelOf(member)).catch(() => undefined);
    return Array.isArray(reply) && Number(reply[1]) === 0;
  }

  #join(names: KeyNames, waitMs: number): void {
    const endsMs = Math.ceil(this.#clock.nowSeconds() * 1000 + waitMs);
    // Where it is denied, or lost, its next look finds what it would have been told.
    this.#client.zadd(names.audience, endsMs, `w${this.#member.id}`).catch(() => undefined);
    // Longer than any lease of a copy, which this must not end early.
    this.#client.pexpire(names.audience, LONGEST_AUDIENCE_MS).catch(() => undefined);
  }

  #isFound(fields: readonly (Buffer | null)[], { atHand, tags, isUnreadable }: ClaimRequest): boolean {
    if (isUnreadable) return false;
    const [delta, expiry, storedTags, mark] = fields;
    if (mark == null || delta == null || expiry == null || (storedTags ?? "").toString() !== tags) return false;
    const deltaSeconds = Number(delta.toString());
    const expirySeconds = Number(expiry.toString());
    const isAtHand = deltaSeconds === atHand?.deltaSeconds && expirySeconds === atHand.expirySeconds;
    return deltaSeconds >= 0 && expirySeconds > this.#clock.nowSeconds() && !isAtHand;
  }

  #replace(names: KeyNames, held: string, token: Token, leaseMs: number): Promise<boolean> {
    return this.#watching.run(
      [names.lock],
      (connection) => connection.get(names.lock),
      (now) =>
        now === held
          ? { answer: true, write: (transaction) => void transaction.set(names.lock, token, "PX", leaseMs) }
          : // A takeover whose reply was lost was run already.
            { answer: now === token },
      this.#timeoutMs,
    );
  }

  store(names: KeyNames, token: Token, entry: EncodedEntry): Promise<StoreAnswer> {
    return this.#act(names, [names.lock, names.entry], ({ held, isForeignEntry, isForeignAudience, audience }) => {
      if (held?.startsWith(token) !== true) return { answer: "refused" };
      if (isForeignEntry || isForeignAudience) return { answer: "foreign" };
      return {
        answer: "done",
        write: (transaction) => {
          writeEntry(transaction, names, entry);
          transaction.del(names.lock);
          removeWaiters(transaction, names, audience);
        },
        tell: toWaiters(audience, stored(names.redisKey)),
      };
    });
  }

  free(names: KeyNames, token: Token, pauseMs: number): Promise<"done" | "refused"> {
    return this.#act(names, [names.lock], ({ held, audience }) => {
      if (held !== token) return { answer: "refused" };
      return {
        answer: "done",
        write: (transaction) => {
          if (pauseMs === 0) transaction.del(names.lock);
          else transaction.set(names.lock, token + PAUSE, "PX", pauseMs);
          removeWaiters(transaction, names, audience);
        },
        tell: toWaiters(audience, freed(names.redisKey)),
      };
    });
  }

  async renew(names: KeyNames, token: Token, grown: Token, leaseMs: number, waitMs: number): Promise<RenewAnswer> {
    const answer = await this.#act<RenewAnswer>(names, [names.lock], ({ held }) => {
      if (held === token || held === grown) {
        return {
          answer: { kind: "done" },
          write: (transaction) => void transaction.set(names.lock, grown, "PX", leaseMs),
        };
      }
      return { answer: held?.startsWith(token) === true ? { kind: "taken", lock: held } : { kind: "lost" } };
    });
    if (answer.kind !== "done") this.#join(names, waitMs);
    return answer;
  }

  async fence(names: KeyNames, fence: string, entry: EncodedEntry | undefined): Promise<FenceAnswer> {
    // The audience is watched too: who enlists meanwhile is to be told, or to read what comes after.
    return this.#act<FenceAnswer>(
      names,
      [names.lock, names.entry, names.audience],
      ({ held, leaseLeftMs, isForeignEntry, audience, nowMs }) => {
        if (isForeignEntry || (held !== null && leaseLeftMs === -1)) return { answer: { kind: "foreign" } };
        const copies = this.#copiesIn(audience, nowMs);
        return {
          answer: { kind: "done", copies },
          write: (transaction) => {
            if (entry === undefined) transaction.del(names.entry);
            else writeEntry(transaction, names, entry);
            transaction.del(names.lock);
            removeWaiters(transaction, names, audience);
          },
          tell: [
            ...toWaiters(audience, freed(names.redisKey)),
            ...copies.map(({ member }): [string, string] => [
              channelOf(member),
              fenced(names.redisKey, fence, this.#member.id),
            ]),
          ],
        };
      },
    );
  }

  // By the server's clock as it is, not as this process believes: a copy that is taken for over is not waited for.
  #copiesIn(audience: readonly string[], nowMs: number): CopyHolder[] {
    const copies: CopyHolder[] = [];
    for (let i = 0; i + 1 < audience.length; i += 2) {
      const [, member, leaseMs] = /^c([0-9a-f]+):(\d+)$/.exec(audience[i]!) ?? [];
      if (member === undefined || member === this.#member.id) continue;
      // Redis writes `inf`, which is no number here.
      const scoreLeftMs = Number(audience[i + 1]?.replace("inf", "Infinity")) - nowMs;
      const leaseLeftMs = Math.min(scoreLeftMs, Number(leaseMs), LONGEST_LEASE_MS);
      if (leaseLeftMs > 0) copies.push({ member, leaseLeftMs });
    }
    return copies;
  }

  async tag(names: KeyNames, kept: string | undefined, keepMs: number): Promise<string> {
    const made = this.#member.nonce();
    // This connection sends nothing again, so no lost reply brings a state back after a fence.
    return this.#watching.run(
      [names.entry],
      (connection) =>
        Promise.all([
          connection.hget(names.entry, names.mark),
          connection.exists(names.entry),
          connection.pttl(names.entry),
        ]),
      ([state, exists, left]): Decision<string> => {
        if (state === null && kept !== undefined) return { answer: "" };
        if (state === null && Number(exists) === 1) return { answer: "foreign" };
        if (state !== null && kept !== undefined && state !== kept) return { answer: state };
        return {
          answer: state ?? made,
          write: (transaction) => {
            if (state === null) transaction.hset(names.entry, names.mark, made);
            if (Number(left) < keepMs) transaction.pexpire(names.entry, keepMs);
          },
        };
      },
      this.#timeoutMs,
    );
  }

  #act<A>(names: KeyNames, watched: readonly string[], decide: (seen: Seen) => Decision<A>): Promise<A> {
    return this.#watching.run(watched, (connection) => look(connection, names, watched), decide, this.#timeoutMs);
  }
}

async function look(connection: WatchingClient, names: KeyNames, watched: readonly string[]): Promise<Seen> {
  const concerns = (key: string): boolean => watched.includes(key);
  const members = connection.zrange(names.audience, 0, -1, "WITHSCORES");
  let isForeignAudience = false;
  const [held, left, isEntry, exists, audience, nowMs] = await Promise.all([
    connection.get(names.lock),
    connection.pttl(names.lock),
    concerns(names.entry) ? connection.hexists(names.entry, names.mark) : 1,
    concerns(names.entry) ? connection.exists(names.entry) : 1,
    // Who only tells waiters goes without, where it may not be read: they look now and then.
    concerns(names.audience)
      ? members
      : members.catch((error: unknown) => {
          isForeignAudience = isWrongType(error);
          return [];
        }),
    concerns(names.audience) ? serverMs(connection) : -Infinity,
  ]);
  const isForeignEntry = Number(exists) === 1 && Number(isEntry) === 0;
  return { held, leaseLeftMs: Number(left), isForeignEntry, isForeignAudience, audience, nowMs };
}

async function serverMs(connection: WatchingClient): Promise<number> {
  // It may be denied.
  const ms = await connection
    .time()
    .then(timeIn)
    .catch(() => NaN);
  return Number.isNaN(ms) ? -Infinity : ms;
}

function writeEntry(transaction: Transaction, names: KeyNames, entry: EncodedEntry): void {
  const { value, deltaSeconds, expirySeconds, tags, keepMs } = entry;
  transaction.hset(
    names.entry,
    "v",
    value,
    "delta",
    String(deltaSeconds),
    "expiry",
    String(expirySeconds),
    "tags",
    tags,
  );
  if (tags === "") transaction.hdel(names.entry, "tags");
  transaction.pexpire(names.entry, keepMs);
}

function waitersIn(audience: readonly string[]): string[] {
  return audience.filter((member, index) => index % 2 === 0 && member.startsWith("w"));
}

function removeWaiters(transaction: Transaction, names: KeyNames, audience: readonly string[]): void {
  const waiters = waitersIn(audience);
  if (waiters.length > 0) transaction.zrem(names.audience, ...waiters);
}

function toWaiters(audience: readonly string[], message: string): Tell {
  return waitersIn(audience).map((member) => [channelOf(member.slice(1)), message]);
}
