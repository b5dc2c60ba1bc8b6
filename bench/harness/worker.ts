import type { Contender } from "../contender.js";
import { runJob } from "../jobs/index.js";
import type { FromWorker, ToWorker } from "./worker-messages.js";

// One process of a fleet: opens the contender it is told to, then does the jobs it is sent until its parent lets go.

const [contenderModule = "", url = ""] = process.argv.slice(2);

function tell(message: FromWorker): void {
  process.send?.(message);
}

const [contender] = Object.values((await import(contenderModule)) as Record<string, Contender>);
if (!contender) throw new Error(`${contenderModule} exports no contender`);
const cache = await contender.open(url);

process.on("message", ({ number, name, input }: ToWorker) => {
  runJob(name, cache, input, () => contender.open(url)).then(
    (output) => tell({ kind: "done", number, output }),
    (error: unknown) => tell({ kind: "failed", number, error: String(error instanceof Error ? error.stack : error) }),
  );
});

// Not cache.close(): what a contender leaves running must not keep the benchmark waiting.
process.on("disconnect", () => process.exit());

tell({ kind: "ready" });
