/** Of a call that has lost patience with one rebuild of its own process: how young another must be for it to join that. */
const JOINABLE_PART = 1 / 4;

interface Waiting {
  readonly givesUpMs: number;
}

/**
 * How long a flight waits for others: for each holder `waitForLock` from when it was first seen, and for all of them together
 * until the first of its calls gives up, `2 * waitForLock` after that asked. Then it takes over.
 */
export class Patience {
  readonly #waitForLockMs: number;
  readonly #aboard: ReadonlyMap<Waiting, unknown>;
  #holder: string | undefined;
  #withHolderEndsMs = Infinity;

  constructor(waitForLockMs: number, aboard: ReadonlyMap<Waiting, unknown>) {
    this.#waitForLockMs = waitForLockMs;
    this.#aboard = aboard;
  }

  /** A holder is seen: a new one gets new patience. */
  sees(lock: string, nowMs: number): void {
    if (lock === this.#holder) return;
    this.#holder = lock;
    this.#withHolderEndsMs = nowMs + this.#waitForLockMs;
  }

  get endsMs(): number {
    let endsMs = this.#withHolderEndsMs;
    for (const { givesUpMs } of this.#aboard.keys()) endsMs = Math.min(endsMs, givesUpMs);
    return endsMs;
  }
}

/** When a call that asked then waits no longer for others, rebuilds of its own process among them: it acts for itself. */
export function givesUpMs(askedMs: number, waitForLockMs: number): number {
  return askedMs + 2 * waitForLockMs;
}

/**
 * How old a rebuild of this process may be for a call to join it that has given up another: all who give up at about the
 * same time share one. It waits no longer for it than until the rebuild is so old.
 */
export function joinableMs(waitForLockMs: number): number {
  return waitForLockMs * JOINABLE_PART;
}
