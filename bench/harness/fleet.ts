import { type ChildProcess, fork } from "node:child_process";
import type { Contender } from "../contender.js";
import type { JobInput, JobName, JobOutput } from "../jobs/index.js";
import type { FromWorker, ToWorker } from "./worker-messages.js";

const workerFile = new URL("./worker.js", import.meta.url);

/** Processes that have one contender open each and do jobs on demand. */
export class Fleet {
  readonly #workers: readonly WorkerProcess[];

  private constructor(workers: readonly WorkerProcess[]) {
    this.#workers = workers;
  }

  static async start(contender: Contender, processes: number, url: string): Promise<Fleet> {
    const workers = Array.from({ length: processes }, () => new WorkerProcess(contender, url));
    await Promise.all(workers.map((worker) => worker.ready));
    return new Fleet(workers);
  }

  get pids(): readonly number[] {
    return this.#workers.map((worker) => worker.pid);
  }

  /** Runs one job in every process at once, or in the first few of them. */
  run<Name extends JobName>(name: Name, input: JobInput<Name>, processes?: number): Promise<JobOutput<Name>[]> {
    return Promise.all(this.#workers.slice(0, processes).map((worker) => worker.run(name, input)));
  }

  /** Runs one job in every process at once, with an input for each. */
  runEach<Name extends JobName>(name: Name, inputOf: (process: number) => JobInput<Name>): Promise<JobOutput<Name>[]> {
    return Promise.all(this.#workers.map((worker, process) => worker.run(name, inputOf(process))));
  }

  runIn<Name extends JobName>(index: number, name: Name, input: JobInput<Name>): Promise<JobOutput<Name>> {
    const worker = this.#workers[index];
    if (!worker) throw new RangeError(`No process ${index} in this fleet`);
    return worker.run(name, input);
  }

  /** To one process: stopped it stays in the fleet, killed it fails what it is asked to do. */
  signal(index: number, signal: "SIGSTOP" | "SIGCONT" | "SIGKILL"): void {
    const pid = this.pids[index];
    if (pid === undefined) throw new RangeError(`No process ${index} in this fleet`);
    process.kill(pid, signal);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
  }

  /** Ends every process in the middle of what it does. */
  async kill(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.kill()));
  }
}

/** One fleet for each contender, all ready before the first is measured. */
export async function startFleets(
  contenders: readonly Contender[],
  processes: number,
  url: string,
): Promise<ReadonlyMap<Contender, Fleet>> {
  const fleets = new Map<Contender, Fleet>();
  for (const contender of contenders) fleets.set(contender, await Fleet.start(contender, processes, url));
  return fleets;
}

class WorkerProcess {
  readonly ready: Promise<void>;
  readonly #process: ChildProcess;
  readonly #exited: Promise<void>;
  // Jobs that have been sent and not answered, by number.
  readonly #waiting = new Map<number, { resolve: (output: never) => void; reject: (error: Error) => void }>();
  #lastJob = 0;

  constructor({ name, module }: Contender, url: string) {
    this.#process = fork(workerFile, [module, url], { serialization: "advanced" });
    this.#exited = new Promise((resolve) => this.#process.once("exit", () => resolve()));
    this.ready = new Promise((resolve, reject) => {
      this.#process.once("error", reject);
      void this.#exited.then(() => reject(new Error(`A ${name} process ended before it was ready`)));
      this.#process.on("message", (message: FromWorker) => {
        if (message.kind === "ready") resolve();
        else this.#settle(message);
      });
    });
    // A process that was stopped or killed answers no more.
    void this.#exited.then(() => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`A ${name} process ended`));
      this.#waiting.clear();
    });
  }

  get pid(): number {
    if (this.#process.pid === undefined) throw new Error("The process did not start");
    return this.#process.pid;
  }

  run<Name extends JobName>(name: Name, input: JobInput<Name>): Promise<JobOutput<Name>> {
    const number = ++this.#lastJob;
    const message: ToWorker = { number, name, input };
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.#process.send(message);
    });
  }

  async stop(): Promise<void> {
    if (this.#process.connected) this.#process.disconnect();
    await this.#exited;
  }

  async kill(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#exited;
  }

  #settle(message: Exclude<FromWorker, { kind: "ready" }>): void {
    const waiting = this.#waiting.get(message.number);
    this.#waiting.delete(message.number);
    if (message.kind === "done") waiting?.resolve(message.output as never);
    else waiting?.reject(new Error(message.error));
  }
}
