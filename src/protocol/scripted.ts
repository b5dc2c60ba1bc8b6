import type { RedisClient } from "../link/redis-client.js";
import { RedisFault, transactionFault } from "../link/redis-fault.js";
import { isQueued, kindOf, wordsOf as inRedisWords } from "../link/replies.js";
import type { KeyNames } from "./key-names.js";
import type { Member } from "./mailbox.js";
import type { Script } from "./scripts.js";
import * as scripts from "./scripts.js";
import type { ClaimAnswer, ClaimRequest, CopyHolder, EncodedEntry, FenceAnswer, RenewAnswer, Steps } from "./steps.js";
import type { StoreAnswer } from "./steps.js";
import type { Token } from "./token.js";
import { firstToken } from "./token.js";

type Word = string | Buffer;

/** Runs scripts on the caller's client. */
export class ScriptRunner {
  readonly #client: RedisClient;
  // EVAL carries the text and EVALSHA needs it loaded: the first run of a process sends the text, the next rely on it.
  readonly #loaded = new Set<Script>();

  constructor(client: RedisClient) {
    this.#client = client;
  }

  /**
   * A script that is answered NOSCRIPT is sent again, behind commands that were sent after it. So nothing may depend on the
   * order of two commands of which one is a script.
   */
  async run(script: Script, keys: readonly string[], args: readonly Word[], asBuffers = false): Promise<unknown> {
    const reply = await this.#send(script, [...keys, ...args], keys.length, asBuffers);
    if (isQueued(reply)) throw transactionFault();
    return reply;
  }

  async #send(script: Script, words: readonly Word[], keyCount: number, asBuffers: boolean): Promise<unknown> {
    const client = this.#client;
    if (this.#loaded.has(script)) {
      try {
        return asBuffers
          ? await client.evalshaBuffer!(script.sha1, keyCount, ...words)
          : await client.evalsha(script.sha1, keyCount, ...words);
      } catch (error) {
        if (kindOf(error) !== "no-script") throw error;
      }
    }
    // What is sent behind it finds it loaded, or is told NOSCRIPT.
    this.#loaded.add(script);
    return asBuffers
      ? client.evalBuffer!(script.text, keyCount, ...words)
      : client.eval(script.text, keyCount, ...words);
  }
}

/** The steps, a script each. */
export class ScriptedSteps implements Steps {
  readonly #scripts: ScriptRunner;
  readonly #member: Member;

  constructor(runner: ScriptRunner, member: Member) {
    this.#scripts = runner;
    this.#member = member;
  }

  async claim(names: KeyNames, request: ClaimRequest): Promise<ClaimAnswer> {
    const { part, leaseMs, purpose, atHand, tags, outwaited = "", silent = "", waitMs } = request;
    const reply = await this.#scripts.run(
      scripts.claim,
      [names.lock, names.entry, names.audience],
      [
        firstToken(part),
        part,
        String(leaseMs),
        purpose,
        atHand === undefined ? "" : String(atHand.deltaSeconds),
        atHand === undefined ? "" : String(atHand.expirySeconds),
        tags,
        outwaited,
        silent,
        `w${this.#member.id}`,
        String(waitMs),
        this.#member.showsDeath ? "1" : "0",
        request.isUnreadable ? "1" : "0",
      ],
    );
    const [kind, lock = "", third = "", fourth = ""] = wordsOf(reply);
    if (kind === "found" || kind === "foreign") return { kind };
    if (kind === "mine") return { kind, token: lock as Token, how: third as "free" };
    const leaseLeftMs = Number(third || NaN);
    if (kind === "held" && Number.isFinite(leaseLeftMs)) return { kind, lock, leaseLeftMs, by: fourth as "holder" };
    throw unexpected(reply);
  }

  async store(names: KeyNames, token: Token, entry: EncodedEntry): Promise<StoreAnswer> {
    const args = [token, ...wordsOfEntry(entry), this.#member.hearsBytes ? "1" : "0"];
    const reply = await this.#scripts.run(scripts.store, [names.lock, names.entry, names.audience], args);
    if (reply === "done" || reply === "locked" || reply === "refused" || reply === "foreign") return reply;
    // The error of a write inside the script, as text.
    throw new Error(inRedisWords(String(reply)));
  }

  async free(names: KeyNames, token: Token, pauseMs: number): Promise<"done" | "refused"> {
    const keys = [names.lock, names.entry, names.audience];
    const reply = await this.#scripts.run(scripts.free, keys, [token, String(pauseMs)]);
    if (reply === "done" || reply === "refused") return reply;
    throw unexpected(reply);
  }

  async renew(names: KeyNames, token: Token, grown: Token, leaseMs: number, waitMs: number): Promise<RenewAnswer> {
    const args = [token, String(leaseMs), `w${this.#member.id}`, String(waitMs), grown];
    const reply = await this.#scripts.run(scripts.renew, [names.lock, names.audience], args);
    const [kind, lock = ""] = wordsOf(reply);
    if (kind === "taken") return { kind, lock };
    if (kind === "done" || kind === "lost") return { kind };
    throw unexpected(reply);
  }

  async fence(names: KeyNames, fence: string, entry: EncodedEntry | undefined): Promise<FenceAnswer> {
    const keys = [names.lock, names.entry, names.audience];
    const args = [this.#member.id, fence, names.mark, ...(entry === undefined ? [] : wordsOfEntry(entry))];
    const reply = await this.#scripts.run(scripts.fence, keys, args);
    const [kind, ...rest] = wordsOf(reply);
    if (kind === "foreign") return { kind };
    if (kind === "failed") throw new Error(inRedisWords(rest[0] ?? ""));
    if (kind !== "done") throw unexpected(reply);
    const copies: CopyHolder[] = [];
    for (let i = 0; i < rest.length; i += 2) copies.push({ member: rest[i]!, leaseLeftMs: Number(rest[i + 1]) });
    // How long to wait for them must be known.
    if (!copies.every(({ leaseLeftMs }) => Number.isFinite(leaseLeftMs))) throw unexpected(reply);
    return { kind, copies };
  }

  async tag(names: KeyNames, kept: string | undefined, keepMs: number): Promise<string> {
    const reply = await this.#scripts.run(
      scripts.tag,
      [names.entry],
      [this.#member.nonce(), String(keepMs), kept ?? ""],
    );
    if (typeof reply === "string") return reply;
    throw unexpected(reply);
  }
}

function wordsOfEntry({ value, deltaSeconds, expirySeconds, tags, keepMs }: EncodedEntry): Word[] {
  return [value, String(deltaSeconds), String(expirySeconds), tags, String(keepMs)];
}

function wordsOf(reply: unknown): string[] {
  return Array.isArray(reply) ? reply.map(String) : [];
}

// What no script of ours answers: a proxy stands between, or a client that is wrapped. It is an answer all the same, and no
// silence. It is not shown whole: it may be the answer to something else, with somebody's value in it.
function unexpected(reply: unknown): RedisFault {
  const kind = Array.isArray(reply) ? `an array of ${String(reply.length)}` : typeof reply;
  return new RedisFault(`Expected the answer of a script, got ${kind}`);
}
