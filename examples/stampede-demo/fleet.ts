import { type ChildProcess, fork } from "node:child_process";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import type { Cleanup } from "../support/cleanup.js";
import type { FromWorker, ToWorker } from "./fleet-messages.js";
import type { HerdPlan, MeasuredHerd } from "./measured-herd.js";
import type { RealServer } from "./server-choice.js";
import { end, exchange } from "./worker-process.js";

const workerPath = fileURLToPath(new URL("fleet-worker.ts", import.meta.url));

export interface FleetRun extends MeasuredHerd {
  readonly queries: number;
}

/** Several processes that each let a herd loose on the same key in the same moment. */
export class Fleet {
  readonly #server: RealServer;
  readonly #workers: readonly ChildProcess[];

  constructor(server: RealServer, processes: number, cleanup: Cleanup) {
    this.#server = server;
    // A fork inherits this process's execArgv, and with it the loader that understands TypeScript.
    this.#workers = Array.from({ length: processes }, () => fork(workerPath));
    cleanup.defer(() => this.close());
  }

  async run(plan: (worker: number) => HerdPlan): Promise<FleetRun> {
    await this.#each(
      (worker) => ({ type: "prepare", server: this.#server, plan: plan(worker) }),
      (message) => (message.type === "prepared" ? true : undefined),
    );
    let queries = 0;
    const beganMs = performance.now();
    const herds = await this.#each(
      () => ({ type: "go" }),
      (message) => {
        if (message.type === "query") queries += 1;
        return message.type === "done" ? message.herd : undefined;
      },
    );
    return {
      queries,
      wallMs: performance.now() - beganMs,
      latenciesMs: herds.flatMap((herd) => herd.latenciesMs),
      commandsSent: herds.reduce((sum, herd) => sum + herd.commandsSent, 0),
    };
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map(end));
  }

  /** Sends each worker its message and waits until each has sent what counts as its answer. */
  #each<T>(
    message: (worker: number) => ToWorker,
    answerOf: (message: FromWorker) => T | undefined,
  ): Promise<readonly T[]> {
    return Promise.all(
      this.#workers.map((worker, index) => exchange(worker, message(index), (reply) => answerOf(reply as FromWorker))),
    );
  }
}
