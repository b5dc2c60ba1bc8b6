import type { RedisClient } from "./redis-client.js";

/** A connection of the library's own, made from the caller's client. */
export interface OwnConnection {
  disconnect(): void;
  on(event: string, listener: (...args: never[]) => void): unknown;
}

interface Duplicable {
  readonly options?: { readonly redisOptions?: object };
  duplicate(...overrides: unknown[]): OwnConnection & WithSocket;
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
  const mortal = {
    retryStrategy: () => null,
    sentinelRetryStrategy: () => null,
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
  const source = client as unknown as Duplicable;
  const connection =
    client.isCluster === true
      ? // ioredis 5 replaces what it is given here, credentials and all, where 6 merges it.
        source.duplicate([], {
          clusterRetryStrategy: () => null,
          lazyConnect: false,
          redisOptions: { ...source.options?.redisOptions, ...mortal },
        })
      : source.duplicate(mortal);
  connection.on("error", () => undefined);
  connection.on("connect", () => connection.stream?.unref?.());
  connection.on("+node", (node: WithSocket) => node.on("connect", () => node.stream?.unref?.()));
  return connection;
}
