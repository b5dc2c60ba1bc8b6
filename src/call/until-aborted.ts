import { FanOut } from "../fan-out.js";

const aborts = new FanOut<AbortSignal>(
  (signal, listener) => {
    signal.addEventListener("abort", listener);
  },
  (signal, listener) => {
    signal.removeEventListener("abort", listener);
  },
);

/** Rejects with the signal's reason when it aborts; what was begun goes on for others. */
export function untilAborted<T>(signal: AbortSignal, begin: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      reject(signal.reason as Error);
    };
    if (signal.aborted) {
      abort();
      return;
    }
    aborts.add(signal, abort);
    begin()
      .finally(() => {
        aborts.remove(signal, abort);
      })
      .then(resolve, reject);
  });
}
