import { Cleanup } from "../support/cleanup.js";
import type { FromWorker, ToWorker } from "./fleet-messages.js";
import { type MeasuredHerd, prepareHerd } from "./measured-herd.js";

// One of the processes of act 2, forked by fleet.ts.

const cleanup = new Cleanup();
let run: (() => Promise<MeasuredHerd>) | undefined;

function report(message: FromWorker): void {
  process.send?.(message);
}

async function handle(message: ToWorker): Promise<void> {
  if (message.type === "prepare") {
    run = await prepareHerd(message.server, message.plan, cleanup, () => report({ type: "query" }));
    report({ type: "prepared" });
  } else if (run !== undefined) {
    report({ type: "done", herd: await run() });
  }
}

process.on("message", (message: ToWorker) => {
  handle(message).catch((error: unknown) => {
    report({ type: "failed", message: error instanceof Error ? error.message : String(error) });
  });
});
// The parent has gone, in whatever way.
process.on("disconnect", () => process.exit());
// Ctrl-C reaches the whole process group; the parent decides when its workers end.
process.on("SIGINT", () => undefined);
