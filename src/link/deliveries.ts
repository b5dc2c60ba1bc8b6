import type { Runtime } from "../runtime.js";
import { detached } from "../runtime.js";
import { isQueued, kindOf } from "./replies.js";

interface Delivery {
  /** Hands the command to the client once more. */
  readonly again: () => Promise<unknown>;
  readonly untilMs: number;
}

const INTERVAL_MS = 100;
// What refuses one refuses nearly all. So a few try for all of them: a server that is read-only for a minute is not to be
// asked ten times a second for every key that was missed meanwhile.
const TRIALS = 10;

/**
 * What must not be left undone, and Redis refuses now, or the client has given up: tried again until it is answered.
 *
 * Only a reply, or an error about the key, is final. Ten of those that wait try every 100 ms, each in its turn; once one
 * is through, all others follow at once. The next attempt of a command begins only when the client has done with the last.
 */
export class Deliveries {
  readonly #runtime: Runtime;
  // Between two attempts. In the order in which they will try.
  readonly #waiting = new Set<Delivery>();
  #isTimed = false;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** @param sent - the first attempt, as the client has it; @param untilMs - by the monotonic clock */
  follow(sent: Promise<unknown>, again: () => Promise<unknown>, untilMs: number): void {
    const delivery = { again, untilMs };
    sent.then(
      (reply) => {
        if (isQueued(reply)) this.#wait(delivery);
      },
      (error: unknown) => {
        if (kindOf(error) !== "key") this.#wait(delivery);
      },
    );
  }

  #wait(delivery: Delivery): void {
    this.#waiting.add(delivery);
    if (this.#isTimed) return;
    this.#isTimed = true;
    this.#startTimer();
  }

  #startTimer(): void {
    detached(() =>
      this.#runtime.startTimer(INTERVAL_MS, false, () => {
        this.#try(TRIALS);
        this.#isTimed = this.#waiting.size > 0;
        if (this.#isTimed) this.#startTimer();
      }),
    );
  }

  #try(count: number): void {
    const nowMs = this.#runtime.monotonicMs();
    let left = count;
    for (const delivery of this.#waiting) {
      if (left === 0) return;
      this.#waiting.delete(delivery);
      if (nowMs >= delivery.untilMs) continue;
      left--;
      const sent = delivery.again();
      this.follow(sent, delivery.again, delivery.untilMs);
      sent.then(
        () => {
          this.#try(Infinity);
        },
        () => undefined,
      );
    }
  }
}
