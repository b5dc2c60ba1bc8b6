import assert from "node:assert/strict";
import { CacheFence } from "cachefence";
import { Redis } from "ioredis";

// Jest's own, in whose environment this is run: see `run.ts`.
declare const test: (name: string, run: () => Promise<void>) => void;

test("a stampede, a wait for another holder, a fence and memory", async () => {
  const clients = [1, 2].map(() => new Redis(Number(process.env.PORT), "127.0.0.1"));
  const namespace = process.env.NAMESPACE!;
  const [one, other] = clients.map(
    (client) => new CacheFence(client, { namespace, memory: new Map(), redisTimeout: 20 }),
  );
  let recomputes = 0;
  let open!: () => void;
  const gate = new Promise<void>((resolve) => (open = resolve));
  const read = (cache: CacheFence) =>
    cache.getOrSet("key", 60, async () => {
      recomputes++;
      await gate;
      return recomputes;
    });
  const calls = Array.from({ length: 100 }, (_, caller) => read(caller % 2 === 0 ? one! : other!));
  // A timer that fires: where jsdom plays the browser, it is a number.
  while ((await clients[0]!.zcard(`${namespace}key:audience`)) === 0) await new Promise((go) => setTimeout(go, 5));
  open();
  assert.deepEqual(new Set(await Promise.all(calls)), new Set([1]));
  while (one!.stats().memoryHits === 0) await read(one!);
  await other!.invalidate("key");
  assert.equal(await read(one!), 2);
  for (const client of clients) client.disconnect();
});
