import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { CacheFence, type CacheFenceOptions } from "cachefence";
import { Redis } from "ioredis";
import { Database } from "./database.js";
import { open, redisUrl } from "./setting.js";

const options: CacheFenceOptions = { namespace: `recipes:outbox:${process.pid}:${Date.now()}:` };
const { redis, cache } = open("outbox", options);
const db = new Database();

/** Some tries in about three seconds: enough for a reconnection or a failover. */
async function invalidateSoon(...keys: string[]): Promise<void> {
  for (let pause = 100; ; pause *= 2) {
    try {
      await cache.invalidate(keys);
      return;
    } catch (error) {
      if (pause > 1_600) throw error;
      await sleep(pause);
    }
  }
}

/** The change, and the note that its key is to be fenced, in one transaction: neither is lost without the other. */
async function renameUser(id: number, name: string): Promise<void> {
  // UPDATE users ...; INSERT INTO cache_outbox (key) VALUES ('user:1')
  await db.renameUserAndRemember(id, name, `user:${id}`);
  await emptyOutbox().catch(() => undefined); // the timer below does what fails here
}

/** Fences first and forgets afterwards: a crash in between only fences twice, which does no harm. */
async function emptyOutbox(): Promise<void> {
  for (;;) {
    const notes = await db.outbox(1_000); // SELECT id, key FROM cache_outbox ORDER BY id LIMIT 1000
    if (notes.length === 0) return;
    await cache.invalidate(notes.map(({ key }) => key));
    await db.removeFromOutbox(notes.map(({ id }) => id)); // DELETE FROM cache_outbox WHERE id = ANY($1)
  }
}

const timer = setInterval(() => void emptyOutbox().catch(() => undefined), 1_000); // in each process, or in one
timer.unref();

// Another process, which does not lose Redis.
const otherRedis = new Redis(redisUrl);
const other = new CacheFence(otherRedis, options);
const nameThere = async () => (await other.getOrSet("user:1", 60, () => db.user(1)))!.name;
const waiting = async () => (await db.outbox(10)).length;

const lose = async () => {
  const ended = once(redis, "end");
  redis.disconnect();
  await ended;
};

console.log(await nameThere());
await lose(); // the outage
await renameUser(1, "Ada");
console.log(`during the outage: ${await nameThere()}, ${await waiting()} to be fenced`);
await redis.connect();
await emptyOutbox();
console.log(`after it: ${await nameThere()}, ${await waiting()} to be fenced`);

await lose();
await db.renameUser(1, "Grace");
const { redisErrors } = cache.stats();
const fenced = invalidateSoon("user:1");
await redis.connect();
await fenced;
console.log(`after ${cache.stats().redisErrors - redisErrors} failure: ${await nameThere()}`);

clearInterval(timer);
redis.disconnect();
otherRedis.disconnect();
