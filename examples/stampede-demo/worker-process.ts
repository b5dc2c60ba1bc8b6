import type { ChildProcess } from "node:child_process";

interface Failed {
  readonly type: "failed";
  readonly message: string;
}

/** Sends a worker its message, and waits until it has sent what counts as its answer, or has failed or ended. */
export function exchange<T>(
  worker: ChildProcess,
  message: object,
  answerOf: (reply: unknown) => T | undefined,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const stop = () => worker.off("message", onMessage).off("exit", onExit);
    const onExit = (code: number | null, signal: NodeJS.Signals | null) => {
      stop();
      reject(new Error(`A process of the fleet ended by itself (${signal ?? `exit code ${String(code)}`})`));
    };
    const onMessage = (reply: { readonly type: string }) => {
      if (isFailed(reply)) {
        stop();
        reject(new Error(`A process of the fleet failed: ${reply.message}`));
        return;
      }
      const answer = answerOf(reply);
      if (answer === undefined) return;
      stop();
      resolve(answer);
    };
    worker.on("message", onMessage).on("exit", onExit);
    // Its failure comes to the same as the exit that is its cause.
    worker.send(message, () => undefined);
  });
}

function isFailed(reply: { readonly type: string }): reply is Failed {
  return reply.type === "failed";
}

export async function end(worker: ChildProcess): Promise<void> {
  if (worker.exitCode !== null || worker.signalCode !== null) return;
  const gone = new Promise((resolve) => worker.once("exit", resolve));
  worker.kill("SIGKILL");
  await gone;
}

/** What a worker does with the messages of the demo: one after the other, and with its parent it ends. */
export function handleMessages(handle: (message: unknown) => Promise<void>): void {
  process.on("message", (message) => {
    handle(message).catch((error: unknown) => {
      const failed: Failed = { type: "failed", message: error instanceof Error ? error.message : String(error) };
      process.send?.(failed);
    });
  });
  // The parent has gone, in whatever way.
  process.on("disconnect", () => process.exit());
  // Ctrl-C reaches the whole process group; the parent decides when its workers end.
  process.on("SIGINT", () => undefined);
}
