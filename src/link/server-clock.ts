import type { RedisLink } from "./redis-link.js";
import type { Runtime } from "../runtime.js";
import { detached, roundSeconds } from "../runtime.js";

const SAMPLE_INTERVAL_MS = 10_000;
const RETRY_INTERVAL_MS = 1_000;
const GOOD_ROUND_TRIP_MS = 50;

/**
 * Redis' own clock, so that hosts whose clocks disagree still agree on an expiry.
 *
 * `TIME` is sampled now and then and carried forward by the monotonic clock, which no adjustment of the host's wall clock
 * can move. A sample tells the offset to within its round trip; after a slow one another is taken soon. The first is
 * waited for; where it failed (TIME denied, an outage), the host's wall clock at construction stands in.
 */
export class ServerClock {
  readonly #link: RedisLink;
  readonly #runtime: Runtime;
  // Server time minus monotonic time. Written when a sample arrives; read by every judgement of an entry.
  #offsetMs: number;
  #nextSampleMs = -Infinity;
  #settling: Promise<void> | undefined;
  /** False until the first sample has arrived or failed. */
  isSettled = false;

  constructor(link: RedisLink, runtime: Runtime) {
    this.#link = link;
    this.#runtime = runtime;
    this.#offsetMs = runtime.wallClockMs() - runtime.monotonicMs();
  }

  nowSeconds(): number {
    return this.secondsAt(this.#runtime.monotonicMs());
  }

  /** Server time at a moment of the monotonic clock. */
  secondsAt(monotonicMs: number): number {
    return (monotonicMs + this.#offsetMs) / 1000;
  }

  /** When what is stored now goes stale. */
  expiryAfter(ttlSeconds: number): number {
    return roundSeconds(this.nowSeconds() + ttlSeconds);
  }

  /** The next command takes a sample along: after an outage Redis may be another host. */
  distrust(): void {
    this.#nextSampleMs = -Infinity;
  }

  /**
   * Resolves when the first sample has arrived, or has failed. Waited for by whoever would judge or write an expiry before
   * that: beside its own read it has mostly arrived. The first one may have waited for a connection; then one more is taken.
   */
  settle(): Promise<void> {
    return (this.#settling ??= detached(() => this.#takeFirst()));
  }

  /** Sends TIME if a sample is due. Sent before a read, it is answered before it, and delays it by nothing. */
  sampleIfDue(nowMs: number): void {
    if (!this.isSettled) void this.settle();
    else if (nowMs >= this.#nextSampleMs) void this.#sample();
  }

  async #takeFirst(): Promise<void> {
    if (!(await this.#sample())) await this.#sample();
    this.isSettled = true;
  }

  /** True if there is no point in another one soon. Never rejects. */
  async #sample(): Promise<boolean> {
    const sentMs = this.#runtime.monotonicMs();
    this.#nextSampleMs = sentMs + SAMPLE_INTERVAL_MS;
    const reply = this.#link.send((client) => client.time());
    const serverMs = await reply.then(timeIn).catch(() => NaN);
    const answeredMs = this.#runtime.monotonicMs();
    // No sample, no harm: the last one still stands, and the next is taken in its turn.
    if (Number.isNaN(serverMs)) return true;
    // TIME was read between sending and reply. An offset that agrees with that stays: a slow reply must not spoil what a
    // fast one has told.
    const isConsistent = this.#offsetMs >= serverMs - answeredMs && this.#offsetMs <= serverMs - sentMs;
    if (!isConsistent) this.#offsetMs = serverMs - (sentMs + answeredMs) / 2;
    const isGood = answeredMs - sentMs <= GOOD_ROUND_TRIP_MS;
    if (!isGood) this.#nextSampleMs = answeredMs + RETRY_INTERVAL_MS;
    return isGood;
  }
}

/** What TIME has replied, in milliseconds; NaN if that is no time. */
export function timeIn(reply: unknown): number {
  const [seconds, microseconds] = Array.isArray(reply) ? reply.map(Number) : [];
  const ms = Number(seconds) * 1000 + Number(microseconds) / 1000;
  return ms > 0 && ms < Infinity ? ms : NaN;
}
