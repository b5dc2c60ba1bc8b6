import type { GuardedOutcome, GuardedWrite, Write } from "./guarded-write.js";
import { ENTRY_MARK, holds, keysOf, touchesEntry } from "./guarded-write.js";
import type { OwnConnection } from "../link/own-connection.js";
import { openOwnConnection } from "../link/own-connection.js";
import type { RedisClient } from "../link/redis-client.js";
import type { Runtime } from "../runtime.js";

/** The commands of the fallback, on a duplicate of the caller's client. */
interface WatchingClient extends OwnConnection {
  watch(...keys: string[]): Promise<unknown>;
  unwatch(): Promise<unknown>;
  get(key: string): Promise<string | null>;
  pttl(key: string): Promise<unknown>;
  exists(key: string): Promise<unknown>;
  hexists(key: string, field: string): Promise<unknown>;
  multi(): Transaction;
  publish(channel: string, message: string): Promise<unknown>;
}

type Transaction = Record<Write["verb"], (key: string, ...args: readonly (string | Buffer)[]) => unknown> & {
  exec(): Promise<[error: Error | null, reply: unknown][] | null>;
};

/**
 * Guarded writes by WATCH/MULTI, for a server that denies scripting.
 *
 * WATCH is a property of the connection: another transaction on it would drop the watch, and with it the guard. So the
 * connection is this library's own, and one transaction at a time has it (`#last`). It is thrown away when it ends, or
 * when a transaction on it takes longer than the deadline.
 */
export class WatchConnection {
  readonly #client: RedisClient;
  readonly #timeoutMs: number;
  readonly #runtime: Runtime;
  /** Called when the connection has ended: scripting may be allowed by now. */
  onEnd: () => void = () => undefined;
  #connection: WatchingClient | undefined;
  // The transaction before the next one; never rejects.
  #last: Promise<unknown> = Promise.resolve();

  constructor(client: RedisClient, timeoutMs: number, runtime: Runtime) {
    this.#client = client;
    this.#timeoutMs = timeoutMs;
    this.#runtime = runtime;
  }

  run(write: GuardedWrite): Promise<GuardedOutcome> {
    const outcome = this.#last.then(() => this.#runAlone(write));
    this.#last = outcome.catch(() => undefined);
    return outcome;
  }

  close(): void {
    this.#connection?.disconnect();
    this.#connection = undefined;
  }

  async #runAlone(write: GuardedWrite): Promise<GuardedOutcome> {
    const connection = (this.#connection ??= this.#connect());
    // Disconnecting rejects whatever is unanswered, so the queue behind this transaction moves on.
    let isOver = false;
    const cancelDeadline = this.#runtime.startTimer(this.#timeoutMs, false, () => {
      // Replies that came during a blocked event loop are read first.
      setImmediate(() => {
        if (!isOver) this.#drop(connection);
      });
    });
    try {
      const outcome = await transact(connection, write);
      if (outcome === "done" && write.news !== undefined && this.#client.isCluster !== true) {
        // Outside the transaction, for a denied channel would abort it; a lost wake-up costs only one poll.
        connection.publish(write.names.channel, write.news).catch(() => undefined);
      }
      return outcome;
    } finally {
      isOver = true;
      cancelDeadline();
    }
  }

  #connect(): WatchingClient {
    const connection = openOwnConnection(this.#client, this.#timeoutMs) as WatchingClient;
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

async function transact(connection: WatchingClient, write: GuardedWrite): Promise<GuardedOutcome> {
  const { names } = write;
  for (;;) {
    // In one trip, in this order: what is read after WATCH is guarded by it.
    const [, held, ttlMs, isEntry, exists] = await Promise.all([
      connection.watch(...keysOf(write)),
      connection.get(names.lock),
      connection.pttl(names.lock),
      touchesEntry(write) ? connection.hexists(names.entry, ENTRY_MARK) : 1,
      touchesEntry(write) ? connection.exists(names.entry) : 1,
    ]);
    const isForeign =
      (write.condition === "any" && held !== null && Number(ttlMs) === -1) ||
      (Number(exists) === 1 && Number(isEntry) === 0);
    if (isForeign || !holds(write.condition, held)) {
      await connection.unwatch();
      return isForeign ? "foreign" : "refused";
    }
    const transaction = connection.multi();
    for (const { verb, on, args } of write.writes) {
      transaction[verb](names[on], ...args);
    }
    const replies = await transaction.exec().catch((error: unknown) => {
      // EXECABORT tells only that a command was refused; which error that was stands behind it.
      throw (error as { previousErrors?: Error[] }).previousErrors?.[0] ?? error;
    });
    // null: somebody wrote to the lock or the entry since WATCH; look again.
    if (replies === null) continue;
    const failure = replies.find(([error]) => error !== null);
    if (failure?.[0]) throw failure[0];
    return "done";
  }
}
