/** Who listens where, by the commands in the order in which the server ran them. */
export class SubscriptionLedger {
  /** Messages pushed so far: at each PUBLISH one to each listener. */
  pushed = 0;
  readonly #listeners = new Map<string, Set<string>>();

  follow(name: string, channels: readonly string[], source: string): void {
    if (name === "publish") this.pushed += this.#of(channels[0] ?? "").size;
    else if (name === "subscribe") for (const channel of channels) this.#of(channel).add(source);
    else if (name === "unsubscribe") for (const channel of channels) this.#of(channel).delete(source);
  }

  #of(channel: string): Set<string> {
    const known = this.#listeners.get(channel);
    if (known) return known;
    const listeners = new Set<string>();
    this.#listeners.set(channel, listeners);
    return listeners;
  }
}
