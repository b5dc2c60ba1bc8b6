import { FanOut } from "../fan-out.js";

const aborts = new FanOut<AbortSignal>(
  (signal, listener) => {
    signal.addEventListener("abort", listener);
  },
  (signal, listener) => {
    signal.removeEventListener("abort", listener);
  },
);

/**
 * Rejects with the signal's reason when it aborts; what was begun goes on for others.
 *
 * @param begin - is given a function that takes what else is to be done then
 */
export function untilAborted<T>(
  signal: AbortSignal,
  begin: (onLeaving: (leave: () => void) => void) => Promise<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    let leave: (() => void) | undefined;
    const abort = (): void => {
      reject(signal.reason as Error);
      leave?.();
    };
    if (signal.aborted) {
      abort();
      return;
    }
    aborts.add(signal, abort);
    begin((doLeave) => (leave = doLeave))
      .finally(() => {
        aborts.remove(signal, abort);
      })
      .then(resolve, reject);
  });
}
