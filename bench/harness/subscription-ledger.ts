/** Who listens where, by the commands in the order in which the server ran them. */
export class SubscriptionLedger {
  /** Messages pushed so far: at each PUBLISH one to each listener. */
  pushed = 0;
  readonly #listeners = new Map<string, Set<string>>();
  // Channel -> how many listened before the first command was seen, by whatever connections.
  readonly #earlier = new Map<string, number>();

  /** So many listened already. */
  begin(channel: string, listeners: number): void {
    this.#earlier.set(channel, listeners);
  }

  follow(name: string, channels: readonly string[], source: string): void {
    if (name === "publish") this.pushed += this.#countOf(channels[0] ?? "");
    else if (name === "subscribe") for (const channel of channels) this.#of(channel).add(source);
    else if (name === "unsubscribe") for (const channel of channels) this.#leave(channel, source);
  }

  #countOf(channel: string): number {
    return (this.#earlier.get(channel) ?? 0) + this.#of(channel).size;
  }

  #leave(channel: string, source: string): void {
    const isKnown = this.#of(channel).delete(source);
    const earlier = this.#earlier.get(channel) ?? 0;
    if (!isKnown && earlier > 0) this.#earlier.set(channel, earlier - 1);
  }

  #of(channel: string): Set<string> {
    const known = this.#listeners.get(channel);
    if (known) return known;
    const listeners = new Set<string>();
    this.#listeners.set(channel, listeners);
    return listeners;
  }
}
