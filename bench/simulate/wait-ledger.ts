/**
 * How long requests waited, without a record for each: the requests that come in a window of w seconds before a value lands
 * are spread evenly over it, so their waits are uniform between its two ends.
 */
export class WaitLedger {
  readonly #windows: { shortestSeconds: number; longestSeconds: number; requests: number }[] = [];
  // Wait -> requests that waited exactly so long: mostly those of the holders, one a cycle, all the same.
  readonly #exact = new Map<number, number>();
  #requests = 0;
  #totalSeconds = 0;

  get requests(): number {
    return this.#requests;
  }

  addWindow(shortestSeconds: number, longestSeconds: number, requests: number): void {
    if (requests === 0) return;
    this.#windows.push({ shortestSeconds, longestSeconds, requests });
    this.#requests += requests;
    this.#totalSeconds += (requests * (shortestSeconds + longestSeconds)) / 2;
  }

  addRequests(waitSeconds: number, requests: number): void {
    this.#exact.set(waitSeconds, (this.#exact.get(waitSeconds) ?? 0) + requests);
    this.#requests += requests;
    this.#totalSeconds += requests * waitSeconds;
  }

  meanSeconds(): number {
    return this.#requests === 0 ? 0 : this.#totalSeconds / this.#requests;
  }

  /** The wait that this share of the waiting requests stayed within. */
  quantileSeconds(share: number): number {
    if (this.#requests === 0) return 0;
    let below = 0;
    let above = Math.max(...this.#exact.keys(), 0);
    for (const { longestSeconds } of this.#windows) above = Math.max(above, longestSeconds);
    for (let halving = 0; halving < 40; halving++) {
      const middle = (below + above) / 2;
      if (this.#shareWithin(middle) >= share) above = middle;
      else below = middle;
    }
    return above;
  }

  #shareWithin(seconds: number): number {
    let within = 0;
    for (const [waitSeconds, requests] of this.#exact) if (seconds >= waitSeconds) within += requests;
    for (const { shortestSeconds, longestSeconds, requests } of this.#windows) {
      if (seconds >= longestSeconds) within += requests;
      else if (seconds > shortestSeconds) {
        within += (requests * (seconds - shortestSeconds)) / (longestSeconds - shortestSeconds);
      }
    }
    return within / this.#requests;
  }
}
