import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { type Answer, type Asked, type Question, READY } from "./shop-messages.js";

export interface TopProduct {
  readonly name: string;
  readonly orders: number;
  readonly cents: number;
  readonly medianCents: number;
}

export interface Revenue {
  readonly orders: number;
  readonly cents: number;
}

export interface Product {
  readonly id: number;
  readonly name: string;
}

export interface Order {
  readonly country: string;
  readonly productId: number;
  readonly cents: number;
}

interface Asker {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** The shop's database behind one connection: queries wait for each other, as they do where a pool is used up. */
export class ShopDatabase {
  readonly #process: ChildProcess;
  // id of a question -> who waits for its answer.
  readonly #askers = new Map<number, Asker>();
  #lastId = READY;
  // Settles when the last query that was asked for has been answered. Never rejects.
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(child: ChildProcess) {
    this.#process = child;
    child.on("message", ({ id, result, error }: Answer) => {
      const asker = this.#askers.get(id);
      this.#askers.delete(id);
      if (error === undefined) asker?.resolve(result);
      else asker?.reject(new Error(error));
    });
    child.once("exit", () => {
      for (const asker of this.#askers.values()) asker.reject(new Error("The database has ended"));
      this.#askers.clear();
    });
  }

  static async start(): Promise<ShopDatabase> {
    // A fork inherits this process's execArgv, and with it the loader that understands TypeScript.
    const database = new ShopDatabase(fork(fileURLToPath(new URL("shop-process.ts", import.meta.url))));
    await database.#answerTo(READY);
    return database;
  }

  /** The expensive one. An aborted `signal` spares the database a query that nobody waits for any more. */
  topProducts(country: string, signal?: AbortSignal): Promise<TopProduct[]> {
    return this.#queued({ type: "top-products", country }, signal) as Promise<TopProduct[]>;
  }

  revenue(country: string, signal?: AbortSignal): Promise<Revenue> {
    return this.#queued({ type: "revenue", country }, signal) as Promise<Revenue>;
  }

  /** By their ids. One that is not there is left out, and so is undefined to whoever looks for it. */
  async products(ids: readonly number[], signal?: AbortSignal): Promise<Map<number, Product | undefined>> {
    const found = (await this.#queued({ type: "products", ids }, signal)) as Product[];
    return new Map(found.map((product) => [product.id, product]));
  }

  async order(order: Order): Promise<void> {
    await this.#queued({ type: "order", ...order });
  }

  /**
   * How many queries for products and orders have reached the database, by the database's own count. It passes by those that
   * wait, as the connection of an administrator does.
   */
  countQueries(): Promise<number> {
    return this.#ask({ type: "count-queries" }) as Promise<number>;
  }

  async close(): Promise<void> {
    await this.#queue;
    if (!this.#process.connected) return;
    const gone = once(this.#process, "exit");
    this.#process.disconnect();
    await gone;
  }

  #queued(question: Question, signal?: AbortSignal): Promise<unknown> {
    const answer = this.#queue.then(() => {
      signal?.throwIfAborted();
      return this.#ask(question);
    });
    this.#queue = answer.catch(() => undefined);
    return answer;
  }

  #ask(question: Question): Promise<unknown> {
    const asked: Asked = { id: ++this.#lastId, question };
    const answer = this.#answerTo(asked.id);
    this.#process.send(asked);
    return answer;
  }

  #answerTo(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => this.#askers.set(id, { resolve, reject }));
  }
}
