import { RecomputeTimeoutError, Withdrawn, isError } from "../errors.js";
import type { Runtime } from "../runtime.js";
import type { RecomputeContext } from "./recompute.js";

/** What a recompute of several items returns: a Map, or an array in their order. An Error in it fails that item alone. */
export type Many<I, T> = ReadonlyMap<I, T | Error> | readonly (T | Error)[];

/** An answer of one item's own recompute: its value may be an Error, and what it has thrown anything. */
export class Settled {
  readonly #result: PromiseSettledResult<unknown>;

  constructor(result: PromiseSettledResult<unknown>) {
    this.#result = result;
  }

  settle(resolve: (value: unknown) => void, reject: (reason: unknown) => void): void {
    if (this.#result.status === "fulfilled") resolve(this.#result.value);
    else reject(this.#result.reason);
  }
}

export interface BatchSource<I> {
  readonly recompute: (items: I[], context: RecomputeContext) => Many<I, unknown> | PromiseLike<Many<I, unknown>>;
  readonly timeoutSeconds: number | undefined;
  /** Aborted: whoever asks has left. */
  readonly signal: AbortSignal | undefined;
}

/** The time limit is that of the whole call: each item is told of it by its own key. */
export class ListTimeoutError extends RecomputeTimeoutError {}

/** One item's answer, on its way. */
interface Asked<I> {
  readonly item: I;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Gathers the items whose lock one call has won, and asks the source for them at once. It waits until each item is known to
 * be won or not; items won later (their holder has failed or died) make a later call. If whoever asks has left by then, nobody
 * is asked, and each item is told so: its lock is freed, and who has joined it asks for itself.
 */
export class Batch<I> {
  readonly #source: BatchSource<I>;
  readonly #runtime: Runtime;
  // Items of which it is not known yet whether they are this call's.
  readonly #undecided: Set<I>;
  #asked: Asked<I>[] = [];
  /** Called when the source has answered, before anybody learns of it: what is done about it is to leave together. */
  onAnswer: () => void = () => undefined;

  constructor(items: Iterable<I>, source: BatchSource<I>, runtime: Runtime) {
    this.#undecided = new Set(items);
    this.#source = source;
    this.#runtime = runtime;
  }

  /** The item is this call's: resolves with its value, or rejects with its error. */
  ask(item: I): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ item, resolve, reject });
      this.decided(item);
    });
  }

  /** It is known of the item whether it is this call's to recompute, for now. */
  decided(item: I): void {
    this.#undecided.delete(item);
    if (this.#undecided.size > 0 || this.#asked.length === 0) return;
    // Those that are won in the same turn go along.
    const flush = (): void => {
      const asked = this.#asked;
      this.#asked = [];
      if (asked.length === 0) return;
      if (this.#source.signal?.aborted === true) for (const { reject } of asked) reject(new Withdrawn());
      else void this.#call(asked);
    };
    void Promise.resolve().then(flush);
  }

  async #call(asked: readonly Asked<I>[]): Promise<void> {
    const items = asked.map(({ item }) => item);
    try {
      const answers = await this.#withTimeout(items);
      this.onAnswer();
      asked.forEach(({ item, resolve, reject }, index) => {
        const answer = Array.isArray(answers)
          ? (answers[index] as unknown)
          : (answers as ReadonlyMap<I, unknown>).get(item);
        if (answer instanceof Settled) answer.settle(resolve, reject);
        else if (isError(answer)) reject(answer);
        else resolve(answer);
      });
    } catch (error) {
      this.onAnswer();
      for (const { reject } of asked) reject(error);
    }
  }

  async #withTimeout(items: I[]): Promise<Many<I, unknown>> {
    const { recompute, timeoutSeconds } = this.#source;
    const controller = new AbortController();
    let cancel = (): void => undefined;
    const tooLong = new Promise<never>((_, reject) => {
      if (timeoutSeconds === undefined) return;
      cancel = this.#runtime.startTimer(timeoutSeconds * 1000, true, () => {
        const error = new ListTimeoutError(`${String(items.length)} items`, timeoutSeconds);
        reject(error);
        controller.abort(error);
      });
    });
    try {
      const answers = await Promise.race([recompute([...items], { signal: controller.signal }), tooLong]);
      return checkAnswers(answers, items.length);
    } finally {
      cancel();
    }
  }
}

function checkAnswers<I>(answers: unknown, count: number): Many<I, unknown> {
  const isMap = typeof (answers as { get?: unknown } | null | undefined)?.get === "function";
  if (isMap) return answers as ReadonlyMap<I, unknown>;
  if (!Array.isArray(answers)) {
    throw new TypeError("Expected recompute to return a Map from item to value, or an array in the order of the items");
  }
  if (answers.length === count) return answers as readonly unknown[];
  throw new TypeError(
    `Expected recompute to return ${String(count)} values, one for each item, got ${String(answers.length)}`,
  );
}
