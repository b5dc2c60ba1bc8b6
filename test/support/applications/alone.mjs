import { CacheFence } from "cachefence";
import { Redis } from "ioredis";

// Three clients stand for three processes: for one file that runs alone.
async function main(url, namespace) {
  const clients = [1, 2, 3].map(() => new Redis(url));
  const options = { namespace, memory: new Map(), redisTimeout: 20, beta: 0 };
  const caches = clients.map((client) => new CacheFence(client, options));
  let recomputes = 0;
  let open;
  const gate = new Promise((resolve) => (open = resolve));
  const read = (cache) =>
    cache.getOrSet("first", 60, async () => {
      recomputes++;
      await gate;
      return "first";
    });
  const calls = caches.map(read);
  while ((await clients[0].zcard(`${namespace}first:audience`)) < 2) await new Promise((go) => setTimeout(go, 5));
  open();
  const values = await Promise.all(calls);
  while (caches[0].stats().memoryHits === 0) await read(caches[0]);
  console.log(JSON.stringify({ values, recomputes, memoryHits: caches[0].stats().memoryHits }));
  for (const client of clients) client.disconnect();
}

void main(process.argv[2], process.argv[3]);
