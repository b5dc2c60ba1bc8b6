import type { RedisClient } from "../../src/link/redis-client.js";
import { parseRun, textOf, twins } from "./model-scripts.js";

export type Word = string | Buffer;

/** An error that the server answers, as ioredis hands it on. */
export class ReplyError extends Error {}

/** What a subscriber connection is told besides replies. */
export interface Listening {
  receive(channel: string, message: Buffer): void;
}

/** Member -> score. */
class SortedSet extends Map<string, number> {}

interface Stored {
  value: string | string[] | Map<string, Buffer> | SortedSet;
  expiresMs: number;
}

const WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value";
const OUT_OF_MEMORY = "OOM command not allowed when used memory > 'maxmemory'.";

/**
 * The Redis commands that cachefence uses, on one thread of execution and a clock that its owner sets. The scripts are not
 * run: a twin of each does the same here, in the same order and with the same answers.
 */
export class ModelServer {
  /** Unix time in milliseconds. */
  nowMs: number;
  /** Writes that need memory are refused. */
  isOutOfMemory = false;
  /** States of tags that were made: no two in one microsecond. */
  statesMade = 0;
  // A script that has written is not stopped halfway: its later writes are allowed without memory.
  hasScriptWritten = false;
  readonly #keys = new Map<string, Stored>();
  readonly #scripts = new Set<string>();
  // Channel -> who listens now; empty where somebody has.
  readonly #listening = new Map<string, Set<Listening>>();

  constructor(nowMs: number) {
    this.nowMs = nowMs;
  }

  /** Runs one command at once. Throws what the server would answer as an error. */
  execute(name: string, args: readonly Word[]): unknown {
    if (name === "evalsha" || name === "eval") return this.#runScript(name, args);
    const [key = "", ...rest] = args.map(textOf);
    switch (name) {
      case "hmget":
        return this.#hash(key, (fields) => rest.map((field) => fields?.get(field) ?? null));
      case "hexists":
        return this.#hash(key, (fields) => (fields?.has(rest[0]!) === true ? 1 : 0));
      case "hset":
        return this.#hset(key, args.slice(1));
      case "set":
        return this.#set(key, rest);
      case "get":
        return this.#string(key);
      case "rpush":
        return this.#rpush(key, rest);
      case "del":
        return this.#find(key) !== undefined && this.#keys.delete(key) ? 1 : 0;
      case "exists":
        return this.#find(key) === undefined ? 0 : 1;
      case "pexpire":
        return this.#pexpire(key, Number(rest[0]));
      case "pttl":
        return this.pttl(key);
      case "type":
        return this.#type(key);
      case "time":
        return [String(Math.floor(this.nowMs / 1000)), String(Math.round((this.nowMs % 1000) * 1000))];
      case "publish":
        return this.#publish(key, Buffer.from(args[1]!));
      case "hdel":
        return this.#hash(key, (fields) => (fields?.delete(rest[0]!) === true ? 1 : 0));
      case "zadd":
        return this.#zadd(key, Number(rest[0]), rest[1]!);
      case "zrem":
        return this.#zrem(key, rest[0]!);
      case "zrange":
        return this.#zrange(key, rest.includes("WITHSCORES"));
      default:
        throw new Error(`The model has no ${name}`);
    }
  }

  flushScripts(): void {
    this.#scripts.clear();
  }

  subscribe(channel: string, subscriber: Listening): void {
    const there = this.#listening.get(channel);
    if (there === undefined) this.#listening.set(channel, new Set([subscriber]));
    else there.add(subscriber);
  }

  unsubscribe(channel: string, subscriber: Listening): void {
    this.#listening.get(channel)?.delete(subscriber);
  }

  hasEverHadSubscribers(channel: string): boolean {
    return this.#listening.has(channel);
  }

  subscribersOf(channel: string): number {
    return this.#listening.get(channel)?.size ?? 0;
  }

  /** The text of a string key, without the error for other types: for whoever watches the server. */
  peekString(key: string): string | undefined {
    const value = this.#find(key)?.value;
    return typeof value === "string" ? value : undefined;
  }

  peekField(key: string, field: string): string | undefined {
    const value = this.#find(key)?.value;
    return value instanceof Map ? value.get(field)?.toString() : undefined;
  }

  peekScores(key: string): ReadonlyMap<string, number> {
    const value = this.#find(key)?.value;
    return value instanceof SortedSet ? value : new SortedSet();
  }

  pttl(key: string): number {
    const found = this.#find(key);
    if (found === undefined) return -2;
    return found.expiresMs === Infinity ? -1 : found.expiresMs - this.nowMs;
  }

  #find(key: string): Stored | undefined {
    const found = this.#keys.get(key);
    if (found === undefined || this.nowMs <= found.expiresMs) return found;
    this.#keys.delete(key);
    return undefined;
  }

  #string(key: string): string | null {
    const found = this.#find(key);
    if (found === undefined) return null;
    if (typeof found.value !== "string") throw new ReplyError(WRONG_TYPE);
    return found.value;
  }

  #hash<T>(key: string, read: (fields: Map<string, Buffer> | undefined) => T): T {
    const found = this.#find(key);
    const isHash = found?.value instanceof Map && !(found.value instanceof SortedSet);
    if (found !== undefined && !isHash) throw new ReplyError(WRONG_TYPE);
    return read(found?.value as Map<string, Buffer> | undefined);
  }

  #hset(key: string, pairs: readonly Word[]): number {
    this.#requireMemory();
    return this.#hash(key, (found) => {
      const fields = found ?? new Map<string, Buffer>();
      const before = fields.size;
      for (let i = 0; i < pairs.length; i += 2) fields.set(textOf(pairs[i]!), Buffer.from(pairs[i + 1]!));
      if (found === undefined) this.#keys.set(key, { value: fields, expiresMs: Infinity });
      return fields.size - before;
    });
  }

  #set(key: string, [value = "", ...options]: readonly string[]): "OK" | null {
    this.#requireMemory();
    if (options.includes("NX") && this.#find(key) !== undefined) return null;
    const px = options.indexOf("PX");
    this.#keys.set(key, { value, expiresMs: px === -1 ? Infinity : this.nowMs + Number(options[px + 1]) });
    return "OK";
  }

  #rpush(key: string, values: readonly string[]): number {
    this.#requireMemory();
    const found = this.#find(key) ?? { value: [], expiresMs: Infinity };
    if (!Array.isArray(found.value)) throw new ReplyError(WRONG_TYPE);
    this.#keys.set(key, found);
    return found.value.push(...values);
  }

  #requireMemory(): void {
    if (this.isOutOfMemory && !this.hasScriptWritten) throw new ReplyError(OUT_OF_MEMORY);
  }

  #pexpire(key: string, ms: number): number {
    const found = this.#find(key);
    if (found === undefined) return 0;
    found.expiresMs = this.nowMs + ms;
    if (ms <= 0) this.#keys.delete(key);
    return 1;
  }

  #type(key: string): string {
    const value = this.#find(key)?.value;
    if (value === undefined) return "none";
    if (value instanceof SortedSet) return "zset";
    return typeof value === "string" ? "string" : Array.isArray(value) ? "list" : "hash";
  }

  #publish(channel: string, message: Buffer): number {
    const there = [...(this.#listening.get(channel) ?? [])];
    for (const subscriber of there) subscriber.receive(channel, message);
    return there.length;
  }

  #zset(key: string): SortedSet | undefined {
    const found = this.#find(key);
    if (found !== undefined && !(found.value instanceof SortedSet)) throw new ReplyError(WRONG_TYPE);
    return found?.value as SortedSet | undefined;
  }

  #zadd(key: string, score: number, member: string): number {
    this.#requireMemory();
    const there = this.#zset(key) ?? new SortedSet();
    const isNew = !there.has(member);
    there.set(member, score);
    if (this.#find(key) === undefined) this.#keys.set(key, { value: there, expiresMs: Infinity });
    return isNew ? 1 : 0;
  }

  #zrem(key: string, member: string): number {
    const there = this.#zset(key);
    if (there?.delete(member) !== true) return 0;
    if (there.size === 0) this.#keys.delete(key);
    return 1;
  }

  #zrange(key: string, withScores: boolean): string[] {
    const sorted = [...(this.#zset(key) ?? [])].sort(([a, i], [b, j]) => i - j || (a < b ? -1 : 1));
    return sorted.flatMap(([member, score]) => (withScores ? [member, String(score)] : [member]));
  }

  #runScript(by: "eval" | "evalsha", words: readonly Word[]): unknown {
    const { name, keys, args } = parseRun(words);
    if (by === "eval") this.#scripts.add(name);
    else if (!this.#scripts.has(name)) throw new ReplyError("NOSCRIPT No matching script. Please use EVAL.");
    try {
      return twins[name](this, keys, args);
    } finally {
      this.hasScriptWritten = false;
    }
  }
}

/** One command on its way: sent, then executed, then answered. */
export interface Command {
  readonly name: string;
  readonly args: readonly Word[];
  /** Whatever its owner wants to know of it later. */
  readonly note: unknown;
  readonly resolve: (reply: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** On its way back: a reply, or a message of a subscription. */
export interface Delivery {
  readonly command: Command | undefined;
  readonly isMessage: boolean;
  readonly reply: unknown;
  readonly error: ReplyError | undefined;
  readonly run: () => void;
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- each event has arguments of its own
type Listener = (...args: any[]) => void;

/** A connection: commands are executed in the order in which they were sent, and answered in that order. */
export abstract class ModelConnection {
  status = "ready";
  readonly stream = { unref: (): void => undefined, cork: (): void => undefined, uncork: (): void => undefined };
  readonly server: ModelServer;
  outbound: Command[] = [];
  inbound: Delivery[] = [];
  /** Called when a command is sent: returns the note to keep with it. */
  onSend: (name: string, args: readonly Word[]) => unknown = () => undefined;
  readonly #listeners = new Map<string, Set<Listener>>();

  constructor(server: ModelServer) {
    this.server = server;
  }

  on(event: string, listener: Listener): this {
    const there = this.#listeners.get(event);
    if (there === undefined) this.#listeners.set(event, new Set([listener]));
    else there.add(listener);
    return this;
  }

  once(event: string, listener: Listener): this {
    return this.on(event, listener);
  }

  off(event: string, listener: Listener): this {
    this.#listeners.get(event)?.delete(listener);
    return this;
  }

  listenerCount(event: string): number {
    return this.#listeners.get(event)?.size ?? 0;
  }

  protected emit(event: string, ...args: unknown[]): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) listener(...args);
  }

  protected send(name: string, args: readonly Word[]): Promise<unknown> {
    if (this.status === "end") return Promise.reject(new Error("Connection is closed."));
    return new Promise((resolve, reject) => {
      this.outbound.push({ name, args, note: this.onSend(name, args), resolve, reject });
    });
  }

  /** The server runs the next command. Its reply is under way then. */
  executeNext(): { command: Command; reply: unknown; error: ReplyError | undefined } {
    const command = this.outbound.shift()!;
    let reply: unknown;
    let error: ReplyError | undefined;
    try {
      reply = this.run(command);
    } catch (thrown) {
      if (!(thrown instanceof ReplyError)) throw thrown;
      error = thrown;
    }
    const run = (): void => {
      if (error === undefined) command.resolve(reply);
      else command.reject(error);
    };
    this.inbound.push({ command, isMessage: false, reply, error, run });
    return { command, reply, error };
  }

  protected abstract run(command: Command): unknown;

  /** The next reply or message arrives. */
  deliverNext(): Delivery {
    const delivery = this.inbound.shift()!;
    delivery.run();
    return delivery;
  }

  /** What has been sent and not answered: replies under way are lost with the connection. */
  protected takeUnanswered(): Command[] {
    const executed = this.inbound.flatMap(({ command }) => command ?? []);
    const unanswered = [...executed, ...this.outbound];
    this.inbound = [];
    this.outbound = [];
    return unanswered;
  }

  protected rejectAll(commands: readonly Command[]): void {
    for (const { reject } of commands) reject(new Error("Connection is closed."));
  }
}

/** The client of one process, which reconnects; with or without sending again what was not answered. */
export class ModelClient extends ModelConnection implements RedisClient {
  readonly options = {};
  readonly #resends: boolean;
  readonly #allowsPubSub: boolean;
  /** The connections made by `duplicate`, oldest first. */
  readonly subscribers: ModelSubscriber[] = [];

  constructor(server: ModelServer, resends = true, allowsPubSub = true) {
    super(server);
    this.#resends = resends;
    this.#allowsPubSub = allowsPubSub;
  }

  hmgetBuffer(key: string, ...fields: string[]): Promise<(Buffer | null)[]> {
    return this.send("hmget", [key, ...fields]) as Promise<(Buffer | null)[]>;
  }
  set(key: string, value: string, px: "PX", leaseMs: number, nx: "NX"): Promise<"OK" | null> {
    return this.send("set", [key, value, px, String(leaseMs), nx]) as Promise<"OK" | null>;
  }
  get(key: string): Promise<string | null> {
    return this.send("get", [key]) as Promise<string | null>;
  }
  pttl(key: string): Promise<unknown> {
    return this.send("pttl", [key]);
  }
  type(key: string): Promise<string> {
    return this.send("type", [key]) as Promise<string>;
  }
  time(): Promise<unknown> {
    return this.send("time", []);
  }
  publish(channel: string, message: string): Promise<unknown> {
    return this.send("publish", [channel, message]);
  }
  zadd(key: string, score: number, member: string): Promise<unknown> {
    return this.send("zadd", [key, String(score), member]);
  }
  zrem(key: string, member: string): Promise<unknown> {
    return this.send("zrem", [key, member]);
  }
  pexpire(key: string, ms: number): Promise<unknown> {
    return this.send("pexpire", [key, String(ms)]);
  }
  evalBuffer(script: string, keyCount: number, ...keysAndArguments: Word[]): Promise<unknown> {
    return this.eval(script, keyCount, ...keysAndArguments);
  }
  evalshaBuffer(sha1: string, keyCount: number, ...keysAndArguments: Word[]): Promise<unknown> {
    return this.evalsha(sha1, keyCount, ...keysAndArguments);
  }
  eval(script: string, keyCount: number, ...keysAndArguments: Word[]): Promise<unknown> {
    return this.send("eval", [script, String(keyCount), ...keysAndArguments]);
  }
  evalsha(sha1: string, keyCount: number, ...keysAndArguments: Word[]): Promise<unknown> {
    return this.send("evalsha", [sha1, String(keyCount), ...keysAndArguments]);
  }

  duplicate(): ModelSubscriber {
    const subscriber = new ModelSubscriber(this.server, this.#allowsPubSub);
    this.subscribers.push(subscriber);
    return subscriber;
  }

  protected run({ name, args }: Command): unknown {
    return this.server.execute(name, args);
  }

  cut(): void {
    this.status = "reconnecting";
    const unanswered = this.takeUnanswered();
    if (this.#resends) this.outbound = unanswered;
    else this.rejectAll(unanswered);
  }

  reconnect(): void {
    this.status = "ready";
    this.emit("ready");
  }
}

/** A connection that only subscribes, and ends when it is cut. */
export class ModelSubscriber extends ModelConnection implements Listening {
  readonly #allowsPubSub: boolean;
  readonly #channels = new Set<string>();

  constructor(server: ModelServer, allowsPubSub: boolean) {
    super(server);
    this.#allowsPubSub = allowsPubSub;
  }

  subscribe(channel: string): Promise<unknown> {
    return this.send("subscribe", [channel]);
  }

  ping(): Promise<unknown> {
    return this.send("ping", []);
  }

  unsubscribe(channel: string): Promise<unknown> {
    return this.send("unsubscribe", [channel]);
  }

  protected run({ name, args }: Command): unknown {
    if (name === "ping") return ["pong", ""];
    const channel = String(args[0]);
    if (!this.#allowsPubSub)
      throw new ReplyError(`NOPERM User default has no permissions to run the '${name}' command`);
    if (name === "subscribe") {
      this.#channels.add(channel);
      this.server.subscribe(channel, this);
    } else {
      this.#channels.delete(channel);
      this.server.unsubscribe(channel, this);
    }
    return this.#channels.size;
  }

  receive(channel: string, message: Buffer): void {
    const run = (): void => this.emit("messageBuffer", Buffer.from(channel), message);
    this.inbound.push({ command: undefined, isMessage: true, reply: message, error: undefined, run });
  }

  loseMessage(): void {
    const at = this.inbound.findIndex(({ isMessage }) => isMessage);
    if (at !== -1) this.inbound.splice(at, 1);
  }

  disconnect(): void {
    this.cut();
  }

  cut(): void {
    if (this.status === "end") return;
    this.leave();
    this.rejectAll(this.takeUnanswered());
    this.emit("end");
  }

  /** The server forgets a connection that is gone. */
  leave(): void {
    this.status = "end";
    for (const channel of this.#channels) this.server.unsubscribe(channel, this);
    this.#channels.clear();
  }
}
