import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { percentile } from "../support/percentile.js";
import type { FromMemoryWorker, Reads, ToMemoryWorker } from "./memory-messages.js";
import { formatCount } from "./output.js";
import type { RealServer } from "./server-choice.js";
import type { Stage } from "./stage.js";
import { end, exchange } from "./worker-process.js";

const workerPath = fileURLToPath(new URL("memory-worker.ts", import.meta.url));

const KEYS = 20;
const ROUNDS = 100;
// The longest there is: no fence of this act can have waited for its end.
const LEASE_SECONDS = 60;
const MOST_WARM_UPS = 20;

export async function actFour({ server, keys, cleanup, output }: Stage<RealServer>): Promise<void> {
  output.line("Act 4: memory");
  output.paragraph(
    `Two processes keep copies of ${KEYS} prices, each for up to ${LEASE_SECONDS} s (memoryLease), and read all of them ` +
      `${ROUNDS} times. Then the first changes each price and calls invalidate, and the second reads it.`,
  );

  output.progress("starting 2 processes");
  const names = Array.from({ length: KEYS }, (_, index) => keys.name(`act-4:${index}`));
  const prices = new Map(names.map((name) => [name, 1]));
  const start = async () => {
    const process = new MemoryProcess(prices);
    cleanup.defer(() => process.end());
    await process.open(server);
    return process;
  };
  const [first, second] = await Promise.all([start(), start()]);
  const rows: string[][] = [];
  for (const [label, process] of [
    ["first process", first],
    ["second process", second],
  ] as const) {
    await process.warmUp(names);
    const { fromMemory, commandsSent } = await process.read(names, ROUNDS);
    rows.push([label, ...[KEYS * ROUNDS, fromMemory, commandsSent].map(formatCount)]);
  }

  output.progress(`${KEYS} fences`);
  let renewed = 0;
  const tookMs: number[] = [];
  for (const [name, price] of prices) {
    prices.set(name, price + 1);
    tookMs.push(await first.fence(name));
    const { prices: found } = await second.read([name], 1);
    if (found[0] === price + 1) renewed++;
  }
  await Promise.all([first.close(), second.close()]);

  output.line();
  output.table(["", "reads", "from\nmemory", "Redis\ncommands"], rows);
  output.line();
  output.line(`${KEYS} fences: ${renewed} new prices, ${KEYS - renewed} old`);
  output.line();
  output.paragraph(
    `A fence took ${percentile(tookMs, 0.5).toFixed(1)} ms (p50): the other process confirms that its copy is gone, ` +
      "so nobody waits for the lease to end.",
  );
}

/** A process with copies in memory. It asks this one, which has the database, for a price. */
class MemoryProcess {
  readonly #child: ChildProcess;

  constructor(prices: ReadonlyMap<string, number>) {
    // A fork inherits this process's execArgv, and with it the loader that understands TypeScript.
    this.#child = fork(workerPath);
    this.#child.on("message", (message: FromMemoryWorker) => {
      if (message.type !== "query") return;
      const answer: ToMemoryWorker = { type: "price", key: message.key, price: prices.get(message.key)! };
      this.#child.send(answer);
    });
  }

  open(server: RealServer): Promise<true> {
    return this.#ask(
      { type: "open", server, memoryLease: LEASE_SECONDS },
      ({ type }) => type === "opened" || undefined,
    );
  }

  read(keys: readonly string[], rounds: number): Promise<Reads> {
    return this.#ask({ type: "read", keys, rounds }, (message) =>
      message.type === "read" ? message.reads : undefined,
    );
  }

  /** Until each key has been read often enough to have a copy. */
  async warmUp(keys: readonly string[]): Promise<void> {
    for (let warmUps = 0; warmUps < MOST_WARM_UPS; warmUps++) {
      if ((await this.read(keys, 1)).fromMemory === keys.length) return;
    }
  }

  fence(key: string): Promise<number> {
    return this.#ask({ type: "fence", key }, (message) => (message.type === "fenced" ? message.tookMs : undefined));
  }

  async close(): Promise<void> {
    await this.#ask({ type: "close" }, ({ type }) => type === "closed" || undefined);
    await this.end();
  }

  end(): Promise<void> {
    return end(this.#child);
  }

  #ask<T>(message: ToMemoryWorker, answerOf: (message: FromMemoryWorker) => T | undefined): Promise<T> {
    return exchange(this.#child, message, (reply) => answerOf(reply as FromMemoryWorker));
  }
}
