import type { RedisClient } from "./redis-client.js";

/** A connection of the library's own, made from the caller's client. */
export interface OwnConnection {
  disconnect(): void;
  on(event: string, listener: (...args: never[]) => void): unknown;
}

/** A failure of such a connection. It says nothing of the caller's own, which may be in the best of health. */
export class OwnConnectionError extends Error {}

interface Duplicable {
  readonly options?: { readonly redisOptions?: object };
  duplicate(...overrides: unknown[]): OwnConnection & WithSocket;
  nodes?(role: "all"): Duplicable[];
}

interface WithSocket {
  readonly stream?: { unref?(): void };
  on(event: "connect", listener: () => void): unknown;
}

/**
 * Opens it: silent, for its errors reach us as rejections; never a reason for the process to stay alive; and without a
 * second life. Reconnecting is left to whoever uses it next, so that no timer of it outlives the caller's own client,
 * and no transaction runs on in a connection that has lost its WATCH.
 */
export function openOwnConnection(client: RedisClient, connectTimeoutMs: number): OwnConnection {
  const source = client as unknown as Duplicable;
  const mortal = mortalOptions(connectTimeoutMs);
  return quiet(
    client.isCluster === true
      ? // ioredis 5 replaces what it is given here, credentials and all, where 6 merges it.
        source.duplicate([], {
          clusterRetryStrategy: () => null,
          lazyConnect: false,
          slotsRefreshInterval: undefined,
          redisOptions: { ...source.options?.redisOptions, ...mortal },
        })
      : source.duplicate(mortal),
  );
}

/** One for messages: of a Cluster to any of its nodes, for each hears what is published at every other. */
export function openSubscriber(client: RedisClient, connectTimeoutMs: number): OwnConnection {
  const source = client as unknown as Duplicable;
  if (client.isCluster !== true) return openOwnConnection(client, connectTimeoutMs);
  const nodes = source.nodes?.("all") ?? [];
  const node = nodes[Math.floor(Math.random() * nodes.length)];
  if (node === undefined) throw new OwnConnectionError("The Cluster has no nodes yet");
  return quiet(node.duplicate(mortalOptions(connectTimeoutMs)));
}

function mortalOptions(connectTimeoutMs: number): object {
  return {
    retryStrategy: () => null,
    sentinelRetryStrategy: () => null,
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
    readOnly: false,
    connectTimeout: connectTimeoutMs,
  };
}

function quiet(connection: OwnConnection & WithSocket): OwnConnection {
  connection.on("error", () => undefined);
  connection.on("connect", () => connection.stream?.unref?.());
  connection.on("+node", (node: WithSocket) => node.on("connect", () => node.stream?.unref?.()));
  return connection;
}
