/** Above this many, the older half of what is known is forgotten early. */
const MOST_KEYS = 20_000;

/**
 * Which keys something has happened to within the last lease, or up to two: two sets that take turns, so that nothing is
 * kept longer and nothing is kept for each key but its name.
 */
export class RecentKeys {
  #current = new Set<string>();
  #before = new Set<string>();
  #turnsMs = -Infinity;

  /** True if it was there already. */
  add(key: string, nowMs: number, periodMs: number): boolean {
    this.#turn(nowMs, periodMs);
    const wasThere = this.#current.has(key) || this.#before.has(key);
    this.#current.add(key);
    return wasThere;
  }

  has(key: string, nowMs: number, periodMs: number): boolean {
    this.#turn(nowMs, periodMs);
    return this.#current.has(key) || this.#before.has(key);
  }

  #turn(nowMs: number, periodMs: number): void {
    if (nowMs < this.#turnsMs && this.#current.size < MOST_KEYS) return;
    const isLongOver = nowMs >= this.#turnsMs + periodMs;
    this.#before = isLongOver ? new Set() : this.#current;
    this.#current = new Set();
    this.#turnsMs = nowMs + periodMs;
  }
}
