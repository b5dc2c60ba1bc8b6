import { Cleanup } from "../support/cleanup.js";
import type { FromWorker, ToWorker } from "./fleet-messages.js";
import { type MeasuredHerd, prepareHerd } from "./measured-herd.js";
import { handleMessages } from "./worker-process.js";

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

handleMessages((message) => handle(message as ToWorker));
