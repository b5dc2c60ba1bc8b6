import { performance } from "node:perf_hooks";
import { percentile } from "../support/percentile.js";
import type { ShopDatabase } from "./shop-database.js";

/** One way of reading the value that the herd asks for. */
export interface Reader {
  /** Takes the value out of the cache. */
  forget(): Promise<void>;
  read(signal: AbortSignal): Promise<unknown>;
}

export interface SideView {
  readonly state: "waiting" | "running" | "done" | "failed";
  readonly answered: number;
  /** Counted by the database, from the moment at which the herd was let loose. */
  readonly queries: number;
  /** Of callers that still wait, the time that they have waited so far. */
  readonly p50Ms: number;
  readonly slowestMs: number;
}

export interface HerdView {
  /** 0: none has been sent. */
  readonly callers: number;
  readonly byHand: SideView;
  readonly cachefence: SideView;
}

/** Sends so many callers at once for a value that is not in the cache: first on one side, then on the other. */
export class Herd {
  readonly #database: ShopDatabase;
  readonly #readers: { readonly byHand: Reader; readonly cachefence: Reader };
  readonly #stop = new AbortController();
  #callers = 0;
  #byHand = new Side();
  #cachefence = new Side();
  // Never rejects.
  #run: Promise<void> | undefined;

  constructor(database: ShopDatabase, readers: { readonly byHand: Reader; readonly cachefence: Reader }) {
    this.#database = database;
    this.#readers = readers;
  }

  /** False: the last one is still running. */
  send(callers: number): boolean {
    if (this.#run !== undefined || this.#stop.signal.aborted) return false;
    this.#callers = callers;
    this.#byHand = new Side();
    this.#cachefence = new Side();
    this.#run = this.#runBoth().finally(() => (this.#run = undefined));
    return true;
  }

  async look(): Promise<HerdView> {
    const queries = await this.#database.countQueries();
    return {
      callers: this.#callers,
      byHand: this.#byHand.view(this.#callers, queries),
      cachefence: this.#cachefence.view(this.#callers, queries),
    };
  }

  /** Ends a herd that is running, and keeps others from being sent. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#run;
  }

  // One after the other: both wait at the same connection of the database.
  async #runBoth(): Promise<void> {
    const { signal } = this.#stop;
    await this.#byHand.run(this.#readers.byHand, this.#callers, this.#database, signal);
    await this.#cachefence.run(this.#readers.cachefence, this.#callers, this.#database, signal);
  }
}

class Side {
  #state: SideView["state"] = "waiting";
  #beganMs = 0;
  readonly #latenciesMs: number[] = [];
  #queriesBefore = 0;
  // Set at the end.
  #queries: number | undefined;

  /** Never rejects. */
  async run(reader: Reader, callers: number, database: ShopDatabase, signal: AbortSignal): Promise<void> {
    try {
      await reader.forget();
      this.#queriesBefore = await database.countQueries();
      this.#state = "running";
      this.#beganMs = performance.now();
      const call = async () => {
        await reader.read(signal);
        this.#latenciesMs.push(performance.now() - this.#beganMs);
      };
      const calls = await Promise.allSettled(Array.from({ length: callers }, call));
      this.#queries = (await database.countQueries()) - this.#queriesBefore;
      this.#state = calls.every(({ status }) => status === "fulfilled") ? "done" : "failed";
    } catch {
      this.#state = "failed";
    }
  }

  view(callers: number, queriesNow: number): SideView {
    const state = this.#state;
    const answered = this.#latenciesMs.length;
    if (state === "waiting") return { state, answered, queries: 0, p50Ms: 0, slowestMs: 0 };
    const soFarMs = performance.now() - this.#beganMs;
    const waiting = state === "running" ? Array<number>(callers - answered).fill(soFarMs) : [];
    const latenciesMs = [...this.#latenciesMs, ...waiting];
    return {
      state,
      answered,
      queries: this.#queries ?? queriesNow - this.#queriesBefore,
      p50Ms: percentile(latenciesMs, 0.5),
      slowestMs: percentile(latenciesMs, 1),
    };
  }
}
