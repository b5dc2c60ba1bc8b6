/**
 * Listens once to each target, however many want to hear of it: Node warns of the eleventh listener, and one signal may
 * stand for a request of fifty keys, one client for a dozen caches. The listener is there only while somebody wants to hear.
 */
export class FanOut<T extends object> {
  readonly #attach: (target: T, listener: () => void) => void;
  readonly #detach: (target: T, listener: () => void) => void;
  // Emptied and forgotten by the event, which comes once, and by the last who leaves.
  readonly #targets = new WeakMap<T, { readonly hearers: Set<() => void>; readonly listener: () => void }>();

  constructor(attach: (target: T, listener: () => void) => void, detach: (target: T, listener: () => void) => void) {
    this.#attach = attach;
    this.#detach = detach;
  }

  add(target: T, hear: () => void): void {
    const known = this.#targets.get(target);
    if (known !== undefined) {
      known.hearers.add(hear);
      return;
    }
    const hearers = new Set([hear]);
    const listener = (): void => {
      this.#targets.delete(target);
      this.#detach(target, listener);
      for (const one of hearers) one();
    };
    this.#targets.set(target, { hearers, listener });
    this.#attach(target, listener);
  }

  remove(target: T, hear: () => void): void {
    const known = this.#targets.get(target);
    if (known === undefined) return;
    known.hearers.delete(hear);
    if (known.hearers.size > 0) return;
    this.#targets.delete(target);
    this.#detach(target, known.listener);
  }
}
