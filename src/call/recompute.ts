import { RecomputeError, RecomputeTimeoutError, Withdrawn } from "../errors.js";
import type { StaleFor } from "../options.js";
import { checkReturnedStaleFor, checkReturnedTtl } from "../options.js";
import type { Runtime } from "../runtime.js";
import { roundSeconds } from "../runtime.js";
import { ListTimeoutError } from "./batch.js";
import type { ValueCodec } from "./value-codec.js";

/** What `recompute` is given. */
export interface RecomputeContext {
  /** Aborts when the recompute has taken longer than `recomputeTimeout`, with the RecomputeTimeoutError as its reason. */
  readonly signal: AbortSignal;
}

/** The caller's part of a rebuild. */
export interface Source {
  readonly key: string;
  readonly recompute: (context: RecomputeContext) => unknown;
  readonly ttl: number | ((value: never) => number);
  readonly staleFor: StaleFor;
  readonly timeoutSeconds: number | undefined;
}

export interface Recomputed {
  readonly value: Buffer;
  readonly deltaSeconds: number;
  /** 0: not to be cached. */
  readonly ttlSeconds: number;
  /** How long past its expiry it may be served. */
  readonly staleForSeconds: number;
}

/** Calls the source, measures it, and serializes what it returned. Rejects with what a caller of `getOrSet` is to get. */
export async function recompute(source: Source, codec: ValueCodec, runtime: Runtime): Promise<Recomputed> {
  const { key, ttl, staleFor } = source;
  const beganMs = runtime.monotonicMs();
  const value = await callWithTimeout(source, runtime);
  const deltaSeconds = roundSeconds((runtime.monotonicMs() - beganMs) / 1000);
  const ttlSeconds = typeof ttl === "number" ? ttl : checkReturnedTtl(await callSource(key, () => ttl(value as never)));
  // Not awaited, as it is not at a hit.
  const [stale] = typeof staleFor === "number" ? [staleFor] : await callSource(key, () => [staleFor(value)]);
  return { value: codec.encode(key, value), deltaSeconds, ttlSeconds, staleForSeconds: checkReturnedStaleFor(stale) };
}

async function callWithTimeout({ key, recompute, timeoutSeconds }: Source, runtime: Runtime): Promise<unknown> {
  const controller = new AbortController();
  const called = callSource(key, () => recompute({ signal: controller.signal }));
  if (timeoutSeconds === undefined) return called;
  return new Promise((resolve, reject) => {
    const cancel = runtime.startTimer(timeoutSeconds * 1000, true, () => {
      const error = new RecomputeTimeoutError(key, timeoutSeconds);
      // Rejected first: what the source makes of the abort must not come before it.
      reject(error);
      controller.abort(error);
    });
    called.finally(cancel).then(resolve, reject);
  });
}

async function callSource<T>(key: string, run: () => T): Promise<Awaited<T>> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof Withdrawn) throw error;
    throw error instanceof ListTimeoutError
      ? new RecomputeTimeoutError(key, error.seconds)
      : new RecomputeError(key, error);
  }
}
