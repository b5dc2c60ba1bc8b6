import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { CacheFence } from "cachefence";
import { Redis } from "ioredis";
import { open, redisUrl } from "./setting.js";

const namespace = `recipes:shutdown:${process.pid}:${Date.now()}:`;
const { redis, cache } = open("shutdown", { namespace });
const server = createServer().listen(0);

async function shutDown(): Promise<void> {
  await new Promise((resolve) => server.close(resolve)); // no new requests; the open ones are answered
  await cache.idle({ signal: AbortSignal.timeout(10_000) }).catch(() => undefined); // no rebuild is wasted
  await cache.close(); // drops the copies in memory: no fence has to wait for this process
  await redis.quit(); // yours to close: cachefence never does
}

process.once("SIGTERM", () => void shutDown());

// A rebuild that nobody waits for any more, as in the background.
await new Promise<void>((begun) => {
  const report = () => {
    begun();
    return sleep(50, "made");
  };
  void cache.getOrSet("report", 60, report).catch(() => undefined);
});
const ended = once(redis, "end");
await shutDown();
await ended;

const next = new Redis(redisUrl); // the process that comes after this one
console.log(await new CacheFence(next, { namespace }).getOrSet("report", 60, () => "made again"));
next.disconnect();
