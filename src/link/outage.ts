import { FanOut } from "../fan-out.js";
import type { Runtime } from "../runtime.js";
import { detached } from "../runtime.js";
import type { RedisClient } from "./redis-client.js";
import { RedisFault } from "./redis-fault.js";

type State =
  /** The first connection is being made: waited for, within the deadline. */
  | { readonly kind: "connecting" }
  | { readonly kind: "ready" }
  /** It has been ready once, and is not now. Nobody waits; its status alone ends it. */
  | { readonly kind: "lost" }
  /**
   * The client says "ready", or is still connecting, but Redis does not answer. Nothing is sent but a probe a second. Any
   * reply ends it, however late, or a new connection.
   */
  | { readonly kind: "silent"; readonly nextProbeMs: number; readonly hasConnected: boolean };

/** `"ready"` also while the client makes its first connection: what is sent waits for it. */
export type LinkState = "ready" | "lost" | "silent";

const PROBE_INTERVAL_MS = 1000;
const connecting: State = { kind: "connecting" };
const ready: State = { kind: "ready" };
const lost: State = { kind: "lost" };

const clientsReady = new FanOut<RedisClient>(
  (client, listener) => {
    detached(() => client.once("ready", listener));
  },
  (client, listener) => client.off("ready", listener),
);

/** Whether Redis is there, as far as this link knows, and why not. */
export class Outage {
  readonly #client: RedisClient;
  readonly #timeoutMs: number;
  readonly #runtime: Runtime;
  /** Called when an outage ends: Redis may be another host by now. */
  onEnd: () => void = () => undefined;
  // What was known at the last look: only `#look` brings the client's status into it.
  #state: State;

  constructor(client: RedisClient, timeoutMs: number, runtime: Runtime) {
    this.#client = client;
    this.#timeoutMs = timeoutMs;
    this.#runtime = runtime;
    this.#state = isConnected(client) ? ready : connecting;
  }

  get state(): LinkState {
    const { kind } = this.#look();
    return kind === "connecting" ? "ready" : kind;
  }

  /** The same to somebody who watches: a client whose first connection has failed is lost, though calls still wait for it. */
  get health(): LinkState {
    const client = this.#client;
    const isAway = client.status === "close" || client.status === "reconnecting" || client.status === "end";
    return isAway || (!isConnected(client) && connectionError(client) !== undefined) ? "lost" : this.state;
  }

  get isLost(): boolean {
    return this.#look().kind === "lost";
  }

  /** True once a second during a silence: whoever asks sends the probe. */
  isProbeDue(): boolean {
    const state = this.#look();
    const nowMs = this.#runtime.monotonicMs();
    if (state.kind !== "silent" || nowMs < state.nextProbeMs) return false;
    this.#state = { ...state, nextProbeMs: nowMs + PROBE_INTERVAL_MS };
    return true;
  }

  /** Nothing was answered for as long as a reply is waited for. A client that is away tells more by its status. */
  beginSilence(): void {
    const { kind } = this.#look();
    if (kind !== "ready" && kind !== "connecting") return;
    const nextProbeMs = this.#runtime.monotonicMs() + PROBE_INTERVAL_MS;
    this.#state = { kind: "silent", nextProbeMs, hasConnected: kind === "ready" };
    clientsReady.add(this.#client, this.#end);
  }

  /** A reply, in time or not: Redis is there. */
  replied(): void {
    if (this.#state.kind === "silent") this.#end();
  }

  /** Why a reply is waited for no longer, or a command not sent. */
  fault(): RedisFault {
    const state = this.#look();
    if (state.kind === "lost") {
      return new RedisFault(`The client has lost its connection to Redis (status ${String(this.#client.status)})`);
    }
    const within = `within redisTimeout (${String(this.#timeoutMs / 1000)} s)`;
    const hasConnected = state.kind === "silent" ? state.hasConnected : state.kind === "ready";
    const cause = hasConnected ? undefined : connectionError(this.#client);
    if (cause === undefined) return new RedisFault(`Redis did not answer ${within}`);
    return new RedisFault(`The client could not connect to Redis ${within}: ${textOf(cause)}`, { cause });
  }

  /** Leaves nothing on the caller's client. */
  close(): void {
    clientsReady.remove(this.#client, this.#end);
  }

  #look(): State {
    const state = this.#state;
    if (isConnected(this.#client)) {
      if (state.kind === "connecting") this.#state = ready;
      // Its event comes a moment after its status.
      else if (state.kind === "lost" || (state.kind === "silent" && !state.hasConnected)) this.#end();
    } else if (state.kind === "ready" || (state.kind === "silent" && state.hasConnected)) {
      this.#state = lost;
      // The listener is there only during an outage, and for no client that does not come back: it keeps none of ours.
      if (this.#client.status !== "end") clientsReady.add(this.#client, this.#end);
    }
    return this.#state;
  }

  readonly #end = (): void => {
    clientsReady.remove(this.#client, this.#end);
    if (this.#state === ready) return;
    this.#state = ready;
    this.onEnd();
  };
}

function isConnected({ status }: RedisClient): boolean {
  return status === undefined || status === "ready";
}

/** Where ioredis keeps why its last attempt to connect failed. A listener for its "error" would hide it from the application. */
interface Connecting {
  readonly connector?: { readonly firstError?: unknown };
  nodes?(role: "all"): readonly Connecting[];
}

function connectionError(client: RedisClient): Error | undefined {
  const one = client as unknown as Connecting;
  const attempts = client.isCluster === true ? (one.nodes?.("all") ?? []) : [one];
  return attempts.map(({ connector }) => connector?.firstError).find((error) => error instanceof Error);
}

// A name with several addresses fails with an AggregateError, which says nothing by itself but its code.
function textOf(error: Error & { readonly code?: string }): string {
  return error.message !== "" ? error.message : (error.code ?? error.name);
}
