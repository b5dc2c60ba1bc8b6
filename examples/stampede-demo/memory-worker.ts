import { performance } from "node:perf_hooks";
import { CacheFence } from "../../src/index.js";
import { connectCounting, type CountingClient } from "./counting-client.js";
import type { FromMemoryWorker, ToMemoryWorker } from "./memory-messages.js";
import { handleMessages } from "./worker-process.js";

// One of the two processes of act 4, forked by act-4-memory.ts.

// Long enough for the act, short enough to be gone soon should the demo be killed before it cleans up.
const TTL_SECONDS = 120;

let client: CountingClient;
let cache: CacheFence;
// key -> who waits for the answer of the database.
const askers = new Map<string, (price: number) => void>();

function report(message: FromMemoryWorker): void {
  process.send?.(message);
}

function queryPrice(key: string): Promise<number> {
  return new Promise((resolve) => {
    askers.set(key, resolve);
    report({ type: "query", key });
  });
}

async function read(keys: readonly string[], rounds: number): Promise<void> {
  const hitsBefore = cache.stats().memoryHits;
  const commandsBefore = client.sent.commands;
  let prices: number[] = [];
  for (let round = 0; round < rounds; round++) {
    prices = [];
    for (const key of keys) prices.push(await cache.getOrSet(key, TTL_SECONDS, () => queryPrice(key)));
  }
  const fromMemory = cache.stats().memoryHits - hitsBefore;
  report({ type: "read", reads: { prices, fromMemory, commandsSent: client.sent.commands - commandsBefore } });
}

handleMessages(async (received) => {
  const message = received as ToMemoryWorker;
  switch (message.type) {
    case "open":
      client = await connectCounting(message.server);
      cache = new CacheFence(client.redis, { memory: new Map(), memoryLease: message.memoryLease });
      report({ type: "opened" });
      break;
    case "read":
      await read(message.keys, message.rounds);
      break;
    case "fence": {
      const beganMs = performance.now();
      await cache.invalidate(message.key);
      report({ type: "fenced", tookMs: performance.now() - beganMs });
      break;
    }
    case "price":
      askers.get(message.key)?.(message.price);
      break;
    case "close":
      await cache.close();
      client.redis.disconnect();
      report({ type: "closed" });
  }
});
