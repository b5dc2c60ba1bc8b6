// A process that serves requests, each with a store of its own in an AsyncLocalStorage, and then looks which of the stores
// the garbage collector leaves in place. Run with --expose-gc; prints their names. "A timer of its own" is to be among them:
// it shows that what is kept is seen.
import { AsyncLocalStorage } from "node:async_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { CacheFence } from "../../src/index.js";
import type { Redis, RedisOptions } from "ioredis";
import { majors } from "./ioredis.js";
import { until } from "./waiting.js";

const [majorName, port, username, password] = process.argv.slice(2);
const major = majors.find(({ name }) => name === majorName)!;
const credentials = username === undefined ? {} : { username, password: password! };
const isScripted = username === undefined;
const namespace = `context-residue:${process.pid}:`;
const options = { namespace, waitForLock: 30, redisTimeout: 10, beta: 0 };

const request = new AsyncLocalStorage<object>();
const stores = new Map<string, WeakRef<object>>();

// A store is in this function's hands only while its request runs.
function serve<T>(name: string, handle: () => Promise<T>): Promise<T> {
  const store = { name };
  stores.set(name, new WeakRef(store));
  return request.run(store, handle);
}

const connect = (more: RedisOptions = {}): Redis =>
  new major.Redis(Number(port), "127.0.0.1", { ...credentials, ...more });
const client = connect();
const far = connect();
await Promise.all([client.ping(), far.ping()]);
const memory = new Map<string, unknown>();
const other = new CacheFence(far, options);
await other.getOrSet("warm", 60, () => "value");

// What is made here stays: it is the application's.
const caches: CacheFence[] = [];
const forever = new AbortController();
let timer: NodeJS.Timeout | undefined;

await serve("a bare command", () => client.get("key"));
await serve("a timer of its own", async () => {
  timer = setInterval(() => undefined, 60_000);
});
await serve("the first of the process, which makes the cache", async () => {
  const cache = new CacheFence(client, { ...options, memory, memoryLease: 30 });
  caches.push(cache);
  await cache.getOrSet("first", 60, () => "value");
});
const cache = caches[0]!;
await serve("a rebuild", () => cache.getOrSet("key", 60, () => sleep(1, "value")));
await serve("a hit", () => cache.getOrSet("key", 60, () => "value"));
await serve("one with a signal that stays", () =>
  cache.getOrSet("signal", 60, () => "value", { signal: forever.signal }),
);
await serve("a rebuild that fails", () => cache.getOrSet("failing", 60, () => Promise.reject(new Error("no")))).catch(
  () => undefined,
);
await serve("a list", () => cache.getOrSetMany([1, 2, 3], String, 60, (items) => items));
await serve("a set", () => cache.set("set", 60, "value"));
await serve("an invalidate", () => cache.invalidate("set"));
await serve("tags", () => cache.getOrSet("tagged", 60, () => "value", { tags: ["tag"] }));
await serve("an invalidate of tags", () => cache.invalidateTags("tag"));

let finish: () => void = () => undefined;
const begun = new Promise<void>((begin) => {
  void other.getOrSet("awaited", 60, () => {
    begin();
    return new Promise((resolve) => (finish = () => resolve("value")));
  });
});
await begun;
const untilItWaits = until("it waits", async () => {
  const waiters = await far.zrange(`${namespace}awaited:audience`, 0, -1);
  return waiters.length === (isScripted ? 1 : 2);
});
void untilItWaits.then(() => finish());
await serve("a wait for another process", () => cache.getOrSet("awaited", 60, () => "value"));

if (isScripted) {
  await other.set("copied", 60, "value");
  const source = async () => (await cache.getOrSetEntry("copied", 60, () => "value")).source;
  let reads = 0;
  await until("it is in memory", async () => (await serve(`the read ${++reads} of a copy`, source)) === "memory");
  await other.set("recalled", 60, "value");
  const recalled = async () => (await cache.getOrSetEntry("recalled", 60, () => "value")).source;
  await until("it is in memory", async () => (await serve(`a read ${++reads}, recalled`, recalled)) === "memory");
  await other.invalidate("recalled");
  if (memory.size === 0) throw new Error("No copy is there any more");
}

const stale = { staleFor: 60, earlyRefresh: "background", retryAfter: 60 } as const;
await cache.set("stale", 0.01, "old", { staleFor: 60 });
await cache.set("paused", 0.01, "old", { staleFor: 60 });
await sleep(20);
await serve("a refresh in the background", () => cache.getOrSet("stale", 60, () => sleep(1, "new"), stale));
await serve("one that fails", () => cache.getOrSet("paused", 60, () => Promise.reject(new Error("no")), stale));
await cache.idle();

const away = connect({ retryStrategy: () => 60_000 });
away.on("error", () => undefined);
const without = new CacheFence(away, options);
await until("the client is connected", () => away.status === "ready");
await without.getOrSet("key", 60, () => "value");
await far.client("KILL", "ID", await away.client("ID"));
await until("the client is away", () => away.status === "reconnecting");
await serve("one during an outage", () => without.getOrSet("other", 60, () => "value"));
if (without.stats().redis !== "lost") throw new Error("It is no outage");

// The last: what a link, a mailbox or a connection has seen last, it is not to keep either.
await serve("the last", async () => {
  await cache.getOrSet("last", 60, () => "value");
  await cache.invalidate("last");
});

const kept = (): string[] => [...stores].flatMap(([name, store]) => (store.deref() === undefined ? [] : [name]));
// A store is held until the turn in which its WeakRef was last asked is over, so looks are few and apart.
for (let round = 0; round < 20 && kept().length > 1; round++) {
  await sleep(50);
  globalThis.gc!();
}
console.log(JSON.stringify({ requests: stores.size, kept: kept() }));
// All of it was there until now.
if (timer === undefined || caches.length === 0 || forever.signal.aborted) process.exit(1);
process.exit(0);
