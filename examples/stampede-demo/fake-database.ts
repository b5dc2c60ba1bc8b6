import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

export interface Answer {
  readonly name: string;
  /** On this process's monotonic clock. A caller that began earlier has had to wait for this query. */
  readonly answeredAtMs: number;
}

/** A database in which every query takes the same time, and that counts them. */
export class FakeDatabase {
  readonly #latencyMs: number;
  readonly #onQuery: () => void;
  queries = 0;

  constructor(latencyMs: number, onQuery: () => void = () => undefined) {
    this.#latencyMs = latencyMs;
    this.#onQuery = onQuery;
  }

  readonly query = async (): Promise<Answer> => {
    this.queries += 1;
    this.#onQuery();
    await sleep(this.#latencyMs);
    return { name: "Ada", answeredAtMs: performance.now() };
  };
}
