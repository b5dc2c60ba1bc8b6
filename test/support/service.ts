import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { CommandName, Commands, FromService, RecomputePlan, Result, ToService } from "./service-messages.js";

const workerPath = fileURLToPath(new URL("service-worker.ts", import.meta.url));
const root = fileURLToPath(new URL("../..", import.meta.url));

/** A recompute that has started somewhere in the fleet and ends when the test says so. */
export interface StartedRecompute {
  readonly service: Service;
  readonly key: string;
  succeed(value: unknown): void;
  fail(message: string): void;
}

/** The gated source of a fleet: recomputes in the order in which they started. */
export class Source {
  readonly started: StartedRecompute[] = [];
  readonly #waiting: ((started: StartedRecompute) => void)[] = [];
  #taken = 0;

  /** The next recompute that starts, or has started and was not asked for. */
  next(): Promise<StartedRecompute> {
    const started = this.started[this.#taken++];
    return started === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(started);
  }

  add(recompute: StartedRecompute): void {
    this.started.push(recompute);
    this.#waiting.shift()?.(recompute);
  }

  clear(): void {
    this.started.length = 0;
    this.#waiting.length = 0;
    this.#taken = 0;
  }
}

interface Pending {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A process of its own that caches through cachefence, and does what the test asks for, one IPC message each. */
export class Service {
  readonly unhandled: string[] = [];
  /** Resolves with the exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
  readonly #child: ChildProcess;
  readonly #source: Source;
  readonly #pending = new Map<number, Pending>();
  #asked = 0;
  #tellSnagged: () => void = () => undefined;
  #snagged!: Promise<void>;

  private constructor(child: ChildProcess, source: Source) {
    this.#child = child;
    this.#source = source;
    this.forgetSnag();
    this.ended = new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal)));
    child.on("message", (message) => this.#receive(message as FromService));
    child.on("error", () => undefined); // Killed before a message was sent: what it was asked is rejected below.
    child.once("exit", () => {
      for (const { reject } of this.#pending.values()) reject(new Error("The service has ended"));
      this.#pending.clear();
    });
  }

  static async start(source: Source): Promise<Service> {
    const child = fork(workerPath, { cwd: root, execArgv: ["--import", "tsx", "--expose-gc"] });
    const service = new Service(child, source);
    await new Promise<void>((resolve, reject) => {
      child.on("message", (message) => {
        if ((message as FromService).type === "ready") resolve();
      });
      void service.ended.then(() => reject(new Error("The service did not start")));
    });
    return service;
  }

  /** Resolves when the service has run into its snag, or has a read withheld. */
  get snagged(): Promise<void> {
    return this.#snagged;
  }

  /** For the next test. */
  forgetSnag(): void {
    this.#snagged = new Promise((resolve) => (this.#tellSnagged = resolve));
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Rejects if the process ends first. */
  ask<N extends CommandName>(name: N, ask: Commands[N]["ask"]): Promise<Commands[N]["answer"]> {
    const id = ++this.#asked;
    const answered = new Promise<unknown>((resolve, reject) => this.#pending.set(id, { resolve, reject }));
    // Whoever awaits it gets the error; what a killed service was asked is awaited by nobody.
    answered.catch(() => undefined);
    if (this.#child.connected) this.#send({ type: "ask", id, name, ask } as ToService);
    else this.#pending.get(id)?.reject(new Error("The service has ended"));
    return answered as Promise<Commands[N]["answer"]>;
  }

  getOrSet(key: string, recompute: RecomputePlan = { kind: "gated" }, callers = 1, ttl = 60): Promise<Result[]> {
    return this.ask("getOrSet", { key, ttl, recompute, callers });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  #send(message: ToService): void {
    this.#child.send(message);
  }

  #receive(message: FromService): void {
    switch (message.type) {
      case "ready":
        return;
      case "answer":
        this.#pending.get(message.id)?.resolve(message.answer);
        this.#pending.delete(message.id);
        return;
      case "failed":
        this.#pending.get(message.id)?.reject(new Error(message.message));
        this.#pending.delete(message.id);
        return;
      case "snagged":
        this.#tellSnagged();
        return;
      case "unhandled":
        this.unhandled.push(message.message);
        return;
      case "recompute-started": {
        const { recompute, key } = message;
        this.#source.add({
          service: this,
          key,
          succeed: (value) => this.#send({ type: "recompute-ends", recompute, value }),
          fail: (error) => this.#send({ type: "recompute-ends", recompute, value: undefined, error }),
        });
      }
    }
  }
}
