import type { RedisClient } from "./redis-client.js";
import { detached } from "../runtime.js";
import { kindOf } from "./replies.js";

/** A connection of the library's own, made from the caller's client. */
export interface OwnConnection {
  disconnect(): void;
  on(event: string, listener: (...args: never[]) => void): unknown;
}

/** A connection of the library's own is refused, or has ended. That says nothing of the caller's client. */
export class OwnConnectionError extends Error {
  constructor(cause: unknown) {
    const text = cause instanceof Error ? cause.message : String(cause);
    super(`A connection of cachefence's own failed: ${text}`, { cause });
  }
}

/**
 * The server that the client is connected to, as far as it shows that: not on a Cluster, nor while it is away. An own
 * connection is left behind when that has changed: in a failover the old primary may live on and keep its connections.
 */
export function peerOf(client: RedisClient): string | undefined {
  const socket = client.stream as { readonly remoteAddress?: string; readonly remotePort?: number } | null | undefined;
  if (socket?.remotePort === undefined) return undefined;
  return `${String(socket.remoteAddress)} ${String(socket.remotePort)}`;
}

/** Of what an own connection rejects with, a reply stands for itself; all else is the connection's failure. */
export function ofOwnConnection(error: unknown): unknown {
  return error instanceof OwnConnectionError || kindOf(error) !== "no-reply" ? error : new OwnConnectionError(error);
}

interface Duplicable {
  readonly status?: string;
  readonly options?: { readonly redisOptions?: object; readonly db?: number };
  readonly condition?: { readonly select?: number };
  duplicate(...overrides: unknown[]): OwnConnection & WithSocket;
  nodes?(role: "all"): readonly Duplicable[];
}

interface WithSocket {
  readonly stream?: { unref?(): void };
  on(event: "connect", listener: () => void): unknown;
}

/**
 * Opens it: silent, for its errors reach us as rejections; never a reason for the process to stay alive; and without a
 * second life. Reconnecting is left to whoever uses it next, so that no timer of it outlives the caller's own client,
 * and no transaction runs on in a connection that has lost its WATCH.
 *
 * @throws OwnConnectionError where the client cannot be duplicated
 */
export function openOwnConnection(client: RedisClient, connectTimeoutMs: number): OwnConnection {
  const mortal = mortalOptions(connectTimeoutMs);
  const source = client as unknown as Duplicable;
  return open(() =>
    client.isCluster === true
      ? // ioredis 5 replaces what it is given here, credentials and all, where 6 merges it.
        source.duplicate([], {
          clusterRetryStrategy: () => null,
          // Its timer would keep the process alive, and the connection is thrown away when it meets a moved slot.
          slotsRefreshInterval: 0,
          lazyConnect: false,
          redisOptions: { ...source.options?.redisOptions, ...mortal },
        })
      : source.duplicate({ ...mortal, db: databaseOf(client) }),
  );
}

/** The number of the database that the client is in: by SELECT it may be another than that of its options. */
export function databaseOf(client: RedisClient): number {
  const { condition, options } = client as unknown as Duplicable;
  return condition?.select ?? options?.db ?? 0;
}

/**
 * Opens one that listens to channels. On a Cluster it is a connection to one of the nodes: every node hears what is
 * published on any, and a Cluster of its own would open several.
 *
 * @throws OwnConnectionError where the client cannot be duplicated, or knows of no node
 */
export function openSubscriber(client: RedisClient, connectTimeoutMs: number): OwnConnection {
  if (client.isCluster !== true) return openOwnConnection(client, connectTimeoutMs);
  return open(() => {
    const nodes = (client as unknown as Duplicable).nodes?.("all") ?? [];
    const ready = nodes.filter(({ status }) => status === "ready");
    const candidates = ready.length > 0 ? ready : nodes;
    // Any: the subscribers of a fleet spread over the nodes.
    const node = candidates[Math.floor(Math.random() * candidates.length)];
    if (node === undefined) throw new Error("the Cluster client knows of no node");
    return node.duplicate(mortalOptions(connectTimeoutMs));
  });
}

function mortalOptions(connectTimeoutMs: number): object {
  return {
    retryStrategy: () => null,
    sentinelRetryStrategy: () => null,
    sentinelReconnectStrategy: () => null,
    // It keeps connections to the sentinels, which nobody would close when the caller's client is closed.
    failoverDetector: false,
    autoResubscribe: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    enableAutoPipelining: false,
    enableOfflineQueue: true,
    // The caller's client has asked and told this already: one command less for each connection.
    enableReadyCheck: false,
    disableClientInfo: true,
    // What is sent here means the same in both, and the older one has no greeting.
    protocol: 2,
    lazyConnect: false,
    connectTimeout: connectTimeoutMs,
  };
}

function open(duplicate: () => OwnConnection & WithSocket): OwnConnection {
  return detached(() => {
    let connection: OwnConnection & WithSocket;
    try {
      connection = duplicate();
    } catch (error) {
      throw new OwnConnectionError(error);
    }
    connection.on("error", () => undefined);
    connection.on("connect", () => connection.stream?.unref?.());
    connection.on("+node", (node: WithSocket) => node.on("connect", () => node.stream?.unref?.()));
    return connection;
  });
}
