import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Answer, Question } from "./shop-messages.js";

export interface TopProduct {
  readonly name: string;
  readonly orders: number;
  readonly cents: number;
  readonly medianCents: number;
}

export interface Order {
  readonly country: string;
  readonly productId: number;
  readonly cents: number;
}

/** The shop's database behind one connection: queries wait for each other, as they do where a pool is used up. */
export class ShopDatabase {
  readonly #process: ChildProcess;
  // Settles when the last query that was asked for has been answered. Never rejects.
  #queue: Promise<unknown>;

  private constructor(child: ChildProcess, ready: Promise<unknown>) {
    this.#process = child;
    this.#queue = ready;
  }

  static async start(): Promise<ShopDatabase> {
    // A fork inherits this process's execArgv, and with it the loader that understands TypeScript.
    const child = fork(fileURLToPath(new URL("shop-process.ts", import.meta.url)));
    const ready = nextAnswer(child);
    await ready;
    return new ShopDatabase(child, ready);
  }

  /** The expensive one. An aborted `signal` spares the database a query that nobody waits for any more. */
  topProducts(country: string, signal?: AbortSignal): Promise<TopProduct[]> {
    return this.#ask({ type: "top-products", country }, signal) as Promise<TopProduct[]>;
  }

  async order(order: Order): Promise<void> {
    await this.#ask({ type: "order", ...order });
  }

  /** How many times `topProducts` has reached the database, by the database's own count. */
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

  #ask(question: Question, signal?: AbortSignal): Promise<unknown> {
    const answer = this.#queue.then(() => {
      signal?.throwIfAborted();
      this.#process.send(question);
      return nextAnswer(this.#process);
    });
    this.#queue = answer.catch(() => undefined);
    return answer;
  }
}

function nextAnswer(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const onMessage = ({ result, error }: Answer) => {
      child.off("exit", onExit);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    };
    const onExit = () => {
      child.off("message", onMessage);
      reject(new Error("The database has ended"));
    };
    child.once("message", onMessage);
    child.once("exit", onExit);
  });
}
