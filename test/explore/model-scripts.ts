import * as scripts from "../../src/protocol/scripts.js";
import { LARGEST_TOLD_BYTES } from "../../src/protocol/scripts.js";
import { PAUSE, takenToken } from "../../src/protocol/token.js";
import type { ModelServer, Word } from "./model.js";
import { ReplyError } from "./model.js";

/** A script run: what it was, on which keys, with which words. */
export interface ScriptRun {
  readonly name: keyof typeof twins;
  readonly keys: readonly string[];
  readonly args: readonly Word[];
}

const names = ["claim", "store", "free", "renew", "fence", "enlist", "tag"] as const;
const bySha = new Map(names.map((name) => [scripts[name].sha1, name]));
const byText = new Map(names.map((name) => [scripts[name].text, name]));

/** What an EVAL or EVALSHA with these words runs. */
export function parseRun(words: readonly Word[]): ScriptRun {
  const word = textOf(words[0]!);
  const name = bySha.get(word) ?? byText.get(word);
  if (name === undefined) throw new Error("The model has no such script");
  const keyCount = Number(words[1]);
  return { name, keys: words.slice(2, 2 + keyCount).map(textOf), args: words.slice(2 + keyCount) };
}

export function textOf(word: Word): string {
  return typeof word === "string" ? word : word.toString();
}

type Twin = (server: ModelServer, keys: readonly string[], args: readonly Word[]) => unknown;

/** Step by step what the Lua texts do. A test holds them against a real server. */
export const twins = { claim, store, free, renew, fence, enlist, tag } satisfies Record<(typeof names)[number], Twin>;

function get(server: ModelServer, key: string): string | null {
  return server.execute("get", [key]) as string | null;
}

function field(server: ModelServer, key: string, name: string): string | undefined {
  const [value] = server.execute("hmget", [key, name]) as (Buffer | null)[];
  return value?.toString();
}

/** pcall: an error is the answer. */
function pcall<T>(run: () => T): T | ReplyError {
  try {
    return run();
  } catch (error) {
    if (error instanceof ReplyError) return error;
    throw error;
  }
}

function join(server: ModelServer, audience: string, member: string, ms: number): void {
  pcall(() => server.execute("zadd", [audience, String(Math.floor(server.nowMs) + ms), member]));
  if (server.pttl(audience) < ms) pcall(() => server.execute("pexpire", [audience, String(ms)]));
}

function members(server: ModelServer, audience: string): string[] {
  const found = pcall(() => server.execute("zrange", [audience, "0", "-1", "WITHSCORES"]) as string[]);
  return found instanceof ReplyError ? [] : found;
}

function waiters(server: ModelServer, audience: string): string[] {
  return members(server, audience).filter((member, index) => index % 2 === 0 && member.startsWith("w"));
}

function tell(server: ModelServer, audience: string, told: readonly string[], message: Buffer): void {
  for (const member of told) {
    server.execute("zrem", [audience, member]);
    server.execute("publish", [`cachefence:${member.slice(1)}`, message]);
  }
}

function about(kind: string, key: string, words = ""): Buffer {
  return Buffer.from(`${kind} ${String(Buffer.byteLength(key))}${words}\n${key}`);
}

function isForeign(server: ModelServer, entry: string, mark: string): boolean {
  return server.execute("hexists", [entry, mark]) === 0 && server.execute("exists", [entry]) === 1;
}

function claim(server: ModelServer, keys: readonly string[], words: readonly Word[]): unknown {
  const [lock, entry, audience] = keys as [string, string, string];
  const args = words.map(textOf);
  const [token, part, leaseMs, purpose, delta, expiry, tags, outwaited, silent, waiter, waitMs, seesSilence, isBlind] =
    args as [string, string, string, string, string, string, string, string, string, string, string, string, string];
  const fields = server.execute("hmget", [entry, "delta", "expiry", "tags", "v"]) as (Buffer | null)[];
  if (fields[3] !== null && isBlind === "0") {
    const [itsDelta, itsExpiry] = fields
      .slice(0, 2)
      .map((one) => (one === null || one.length === 0 ? NaN : Number(one.toString()))) as [number, number];
    const itsTags = fields[2]?.toString() ?? "";
    const isAtHand = delta !== "" && itsDelta === Number(delta) && itsExpiry === Number(expiry);
    const isReadable = itsDelta >= 0 && itsDelta < Infinity && itsExpiry < Infinity;
    const isValid = itsExpiry * 1000 > Math.floor(server.nowMs);
    if (isReadable && isValid && itsTags === tags && !isAtHand) return ["found"];
  }
  const held = get(server, lock);
  if (held?.endsWith(`:${part}`)) return ["mine", held, held === token ? "free" : "patience"];
  const left = held === null ? -2 : server.pttl(lock);
  if (left === -1) return ["foreign"];
  const isPause = held?.endsWith(PAUSE) === true;
  if (held === null || (isPause && purpose === "fill")) {
    if (isPause) server.execute("del", [lock]);
    server.execute("set", [lock, token, "NX", "PX", leaseMs]);
    return ["mine", token, "free"];
  }
  const [, member] = /:L([0-9a-f]+)-[0-9a-f]+$/.exec(held) ?? [];
  const isSilent = member !== undefined && seesSilence === "1" && server.subscribersOf(`cachefence:${member}`) === 0;
  if (!isPause && (held === outwaited || (isSilent && held === silent))) {
    const taken = takenToken(held, part);
    server.execute("set", [lock, taken, "PX", leaseMs]);
    return ["mine", taken, held === outwaited ? "patience" : "silence"];
  }
  if (purpose === "fill" && waitMs !== "0") join(server, audience, waiter, Number(waitMs));
  return ["held", held, String(Math.floor(left)), isPause ? "pause" : isSilent ? "silent" : "holder"];
}

/** Writes until one fails; then its error. */
function writes(server: ModelServer, commands: readonly (readonly [string, ...Word[]])[]): ReplyError | undefined {
  for (const [name, ...args] of commands) {
    const reply = pcall(() => server.execute(name, args));
    if (reply instanceof ReplyError) return reply;
    server.hasScriptWritten = true;
  }
  return undefined;
}

function store(server: ModelServer, keys: readonly string[], args: readonly Word[]): unknown {
  const [lock, entry, audience] = keys as [string, string, string];
  const [token, delta, expiry, tags, keepMs, hearsBytes] = [0, 2, 3, 4, 5, 6].map((at) => textOf(args[at]!));
  const value = Buffer.from(args[1]!);
  if (get(server, lock)?.startsWith(token!) !== true) return "refused";
  if (isForeign(server, entry, "v")) return "foreign";
  const told = waiters(server, audience);
  const fields = ["v", value, "delta", delta!, "expiry", expiry!];
  const failure = writes(server, [
    ...(tags === ""
      ? [["hset", entry, ...fields] as const, ["hdel", entry, "tags"] as const]
      : [["hset", entry, ...fields, "tags", tags!] as const]),
    ["pexpire", entry, keepMs!],
  ]);
  server.execute("del", [lock]);
  let message = about("stored", entry);
  if (hearsBytes === "1" && value.length <= LARGEST_TOLD_BYTES) {
    const words = ` ${token!} ${delta!} ${expiry!} ${String(tags!.length)}`;
    message = Buffer.concat([about("stored", entry, words), Buffer.from(tags!), value]);
  }
  if (failure !== undefined) message = about("freed", entry);
  tell(server, audience, told, message);
  return failure?.message ?? "done";
}

function free(server: ModelServer, keys: readonly string[], args: readonly Word[]): unknown {
  const [lock, entry, audience] = keys as [string, string, string];
  const [token, pauseMs] = args.map(textOf) as [string, string];
  if (get(server, lock) !== token) return "refused";
  if (pauseMs === "0") server.execute("del", [lock]);
  else server.execute("set", [lock, token + PAUSE, "PX", pauseMs]);
  tell(server, audience, waiters(server, audience), about("freed", entry));
  return "done";
}

function renew(server: ModelServer, keys: readonly string[], args: readonly Word[]): unknown {
  const [lock, audience] = keys as [string, string];
  const [token, leaseMs, waiter, waitMs, grown] = args.map(textOf) as [string, string, string, string, string];
  const held = get(server, lock);
  if (held === token || held === grown) {
    server.execute("pexpire", [lock, leaseMs]);
    if (held !== grown) server.execute("set", [lock, grown, "PX", leaseMs]);
    return ["done"];
  }
  join(server, audience, waiter, Number(waitMs));
  return held?.startsWith(token) === true ? ["taken", held] : ["lost"];
}

function fence(server: ModelServer, keys: readonly string[], args: readonly Word[]): unknown {
  const [lock, entry, audience] = keys as [string, string, string];
  const [member, name, mark] = args.slice(0, 3).map(textOf) as [string, string, string];
  if (get(server, lock) !== null && server.pttl(lock) === -1) return ["foreign"];
  if (isForeign(server, entry, mark)) return ["foreign"];
  const audienceIs = server.execute("type", [audience]);
  if (audienceIs !== "none" && audienceIs !== "zset") return ["foreign"];
  let failure: ReplyError | undefined;
  if (args.length > 3) {
    const [delta, expiry, tags, keepMs] = args.slice(4).map(textOf) as [string, string, string, string];
    failure = writes(server, [
      ["hset", entry, "v", args[3]!, "delta", delta, "expiry", expiry, "tags", tags],
      ...(tags === "" ? [["hdel", entry, "tags"] as const] : []),
      ["pexpire", entry, keepMs],
    ]);
  } else server.execute("del", [entry]);
  server.execute("del", [lock]);
  tell(server, audience, waiters(server, audience), about("freed", entry));
  if (failure !== undefined) return ["failed", failure.message];
  const answer = ["done"];
  const there = members(server, audience);
  for (let i = 0; i + 1 < there.length; i += 2) {
    const [, holder, leaseMs] = /^c([0-9a-f]+):(\d+)$/.exec(there[i]!) ?? [];
    const left = Math.min(Number(there[i + 1]) - Math.floor(server.nowMs), Number(leaseMs ?? 0));
    if (left <= 0) server.execute("zrem", [audience, there[i]!]);
    else if (holder !== member) {
      server.execute("publish", [`cachefence:${holder!}`, about("fenced", entry, ` ${name} ${member}`)]);
      answer.push(holder!, String(left));
    }
  }
  return answer;
}

function enlist(server: ModelServer, keys: readonly string[], args: readonly Word[]): unknown {
  const [entry, audience] = keys as [string, string];
  const [copy, leaseMs, ...fields] = args.map(textOf) as [string, string, ...string[]];
  server.execute("zadd", [audience, String(Math.floor(server.nowMs) + Number(leaseMs)), copy]);
  if (server.pttl(audience) < Number(leaseMs)) server.execute("pexpire", [audience, leaseMs]);
  return server.execute("hmget", [entry, ...fields]);
}

function tag(server: ModelServer, keys: readonly string[], args: readonly Word[]): unknown {
  const [key] = keys as [string];
  const [nonce, keepMs, kept] = args.map(textOf) as [string, string, string];
  let state = field(server, key, "state");
  if (state === undefined) {
    if (kept !== "") return "";
    if (server.execute("exists", [key]) === 1) return "foreign";
    const [seconds, microseconds] = server.execute("time", []) as [string, string];
    // A server's clock goes on from one command to the next, the model's stands still.
    state = `${nonce}-${seconds}-${String(Number(microseconds) + server.statesMade++)}`;
    server.execute("hset", [key, "state", state]);
  } else if (kept !== "" && state !== kept) return state;
  if (server.pttl(key) < Number(keepMs)) server.execute("pexpire", [key, keepMs]);
  return state;
}
