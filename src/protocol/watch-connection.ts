import type { OwnConnection } from "../link/own-connection.js";
import { databaseOf, ofOwnConnection, openOwnConnection, peerOf } from "../link/own-connection.js";
import type { RedisClient } from "../link/redis-client.js";
import type { Runtime } from "../runtime.js";
import { detached } from "../runtime.js";

/** The commands of the fallback, on a duplicate of the caller's client. */
export interface WatchingClient extends OwnConnection {
  watch(...keys: string[]): Promise<unknown>;
  unwatch(): Promise<unknown>;
  get(key: string): Promise<string | null>;
  pttl(key: string): Promise<unknown>;
  exists(key: string): Promise<unknown>;
  hexists(key: string, field: string): Promise<unknown>;
  hget(key: string, field: string): Promise<string | null>;
  zrange(key: string, from: number, to: number, withScores: "WITHSCORES"): Promise<string[]>;
  time(): Promise<unknown>;
  multi(): Transaction;
  publish(channel: string, message: string): Promise<unknown>;
}

type Queue = (key: string, ...args: readonly (string | number | Buffer)[]) => unknown;

export type Transaction = Record<"del" | "set" | "pexpire" | "hset" | "hdel" | "zadd" | "zrem", Queue> & {
  exec(): Promise<[error: Error | null, reply: unknown][] | null>;
};

/** What is done about what was seen. Without `write` nothing is. */
export interface Decision<A> {
  readonly answer: A;
  readonly write?: (transaction: Transaction) => void;
  /** Published once it is done: channel and message. */
  readonly tell?: readonly (readonly [channel: string, message: string])[];
}

/**
 * Compare and act by WATCH/MULTI, for a server that denies scripting.
 *
 * WATCH is a property of the connection: another transaction on it would drop the watch, and with it the guard. So the
 * connection is this library's own, and one transaction at a time has it (`#last`). It is thrown away when it ends, or
 * when a transaction on it takes longer than the deadline.
 */
export class WatchConnection {
  readonly #client: RedisClient;
  readonly #runtime: Runtime;
  /** Called when the connection has ended: scripting may be allowed by now. */
  onEnd: () => void = () => undefined;
  #connection: WatchingClient | undefined;
  // The server that the client was connected to when that was opened, and the database that it had selected there.
  #peer: string | undefined;
  #database = 0;
  // The transaction before the next one; never rejects. It stays, and so is made outside of any request.
  #last: Promise<unknown> = detached(() => Promise.resolve());

  constructor(client: RedisClient, runtime: Runtime) {
    this.#client = client;
    this.#runtime = runtime;
  }

  /** Looks at the keys, decides, and writes, if nobody has written to one of them meanwhile; else looks again. */
  run<S, A>(
    keys: readonly string[],
    look: (connection: WatchingClient) => Promise<S>,
    decide: (seen: S) => Decision<A>,
    timeoutMs: number,
  ): Promise<A> {
    const answer = this.#last.then(() => this.#runAlone(keys, look, decide, timeoutMs));
    this.#last = detached(() => answer.catch(() => undefined));
    return answer;
  }

  close(): void {
    this.#connection?.disconnect();
    this.#connection = undefined;
  }

  async #runAlone<S, A>(
    keys: readonly string[],
    look: (connection: WatchingClient) => Promise<S>,
    decide: (seen: S) => Decision<A>,
    timeoutMs: number,
  ): Promise<A> {
    this.#followClient();
    const connection = (this.#connection ??= this.#connect(timeoutMs));
    // Disconnecting rejects whatever is unanswered, so the queue behind this transaction moves on.
    let isOver = false;
    const cancelDeadline = this.#runtime.startTimer(timeoutMs, false, () => {
      // Replies that came during a blocked event loop are read first.
      setImmediate(() => {
        if (!isOver) this.#drop(connection);
      });
    });
    try {
      const { answer, tell = [] } = await transact(connection, keys, look, decide);
      // Outside the transaction, for a denied channel would abort it; a lost message costs a waiter its next look.
      for (const [channel, message] of tell) connection.publish(channel, message).catch(() => undefined);
      return answer;
    } catch (error) {
      throw ofOwnConnection(error);
    } finally {
      isOver = true;
      cancelDeadline();
    }
  }

  /** Where the client is connected to another server by now, or in another database, so must this be. */
  #followClient(): void {
    const peer = peerOf(this.#client) ?? this.#peer;
    const database = databaseOf(this.#client);
    if ((this.#peer !== undefined && peer !== this.#peer) || database !== this.#database) this.close();
    this.#peer = peer;
    this.#database = database;
  }

  #connect(timeoutMs: number): WatchingClient {
    const connection = openOwnConnection(this.#client, timeoutMs) as WatchingClient;
    connection.on("end", () => {
      this.#drop(connection);
    });
    return connection;
  }

  #drop(connection: WatchingClient): void {
    connection.disconnect();
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.onEnd();
  }
}

async function transact<S, A>(
  connection: WatchingClient,
  keys: readonly string[],
  look: (connection: WatchingClient) => Promise<S>,
  decide: (seen: S) => Decision<A>,
): Promise<Decision<A>> {
  for (;;) {
    // In one trip, in this order: what is read after WATCH is guarded by it.
    const [, seen] = await Promise.all([connection.watch(...keys), look(connection)]);
    const decision = decide(seen);
    if (decision.write === undefined) {
      await connection.unwatch();
      return decision;
    }
    const transaction = connection.multi();
    decision.write(transaction);
    const replies = await transaction.exec().catch((error: unknown) => {
      // EXECABORT tells only that a command was refused; which error that was stands behind it.
      throw (error as { previousErrors?: Error[] }).previousErrors?.[0] ?? error;
    });
    // null: somebody wrote to one of the keys since WATCH; look again.
    if (replies === null) continue;
    const failure = replies.find(([error]) => error !== null);
    if (failure?.[0]) throw failure[0];
    return decision;
  }
}
