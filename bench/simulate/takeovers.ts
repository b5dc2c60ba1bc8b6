import { LOOK_SECONDS } from "./cost-model.js";
import { EventQueue } from "./event-queue.js";

/**
 * How many waiting processes lose patience and rebuild, when the holder stores `storedSeconds` after the window of waiting
 * began. A waiter waits `waitForLock` for one holder; it notices a new one by its next look and then waits anew, but
 * `2 * waitForLock` in all. What a taker recomputes is not stored before the first holder's value: both take as long.
 *
 * A lower bound for recomputes longer than `4 * waitForLock`: callers that join a taker's rebuild and give that up in
 * their turn are not followed.
 */
export function countTakeovers(
  arrivalsSeconds: readonly number[],
  storedSeconds: number,
  waitForLockSeconds: number,
): number {
  if (storedSeconds <= waitForLockSeconds) return 0;
  const patienceEnds = new EventQueue<{ readonly arrivedSeconds: number; knownHolder: number }>();
  for (const arrivedSeconds of arrivalsSeconds) {
    patienceEnds.add(arrivedSeconds + waitForLockSeconds, { arrivedSeconds, knownHolder: 0 });
  }

  let takeovers = 0;
  let takenSeconds = 0;
  for (let next = patienceEnds.next(); next !== undefined; next = patienceEnds.next()) {
    const { atSeconds, event: waiter } = next;
    if (atSeconds >= storedSeconds) break;
    const { arrivedSeconds } = waiter;
    const lastSeconds = arrivedSeconds + 2 * waitForLockSeconds;
    if (waiter.knownHolder < takeovers && atSeconds < lastSeconds) {
      waiter.knownHolder = takeovers;
      const pollsBefore = Math.ceil((takenSeconds - arrivedSeconds) / LOOK_SECONDS);
      const noticedSeconds = Math.min(arrivedSeconds + pollsBefore * LOOK_SECONDS, atSeconds);
      patienceEnds.add(Math.min(noticedSeconds + waitForLockSeconds, lastSeconds), waiter);
    } else {
      takeovers++;
      takenSeconds = atSeconds;
    }
  }
  return takeovers;
}
