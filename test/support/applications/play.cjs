const { setTimeout: sleep } = require("node:timers/promises");

// A play in Redis: its actors are threads or processes, and everything that they say to each other is a key.

async function until(isSo) {
  while (!(await isSo())) await sleep(5);
}

async function waiters(redis, key) {
  const members = await redis.zrange(`${key}:audience`, 0, -1);
  return members.filter((member) => member.startsWith("w")).length;
}

/** The director: starts the actors, opens the gates, and tells what happened. */
exports.direct = async function direct({ Redis, url, namespace, start, end }) {
  const redis = new Redis(url);
  // Three that ask for one cold key.
  for (let actor = 0; actor < 3; actor++) start("asks");
  await until(async () => (await waiters(redis, `${namespace}first`)) === 2);
  await redis.set(`${namespace}gate`, "open");
  await until(async () => (await redis.llen(`${namespace}values`)) === 3);
  const values = await redis.lrange(`${namespace}values`, 0, -1);
  const recomputes = Number(await redis.get(`${namespace}recomputes`));
  // One that rebuilds another key and is ended, and one that waits for it.
  const holder = start("holds");
  await until(async () => (await redis.exists(`${namespace}held`)) === 1);
  start("waits");
  await until(async () => (await waiters(redis, `${namespace}second`)) === 1);
  await end(holder);
  await until(async () => (await redis.exists(`${namespace}taken over`)) === 1);
  const afterTheEnd = await redis.get(`${namespace}taken over`);
  redis.disconnect();
  return { values, recomputes, afterTheEnd };
};

/** An actor. Its leases and its patience are longer than the play: nothing happens because one of them ends. */
exports.play = async function play({ CacheFence, Redis, url, namespace, role }) {
  const redis = new Redis(url);
  const cache = new CacheFence(redis, { namespace, lockTimeout: 600, waitForLock: 600, redisTimeout: 20, beta: 0 });
  if (role === "asks") {
    const value = await cache.getOrSet("first", 60, async () => {
      await redis.incr(`${namespace}recomputes`);
      await until(async () => (await redis.exists(`${namespace}gate`)) === 1);
      return "first";
    });
    await redis.rpush(`${namespace}values`, value);
  } else if (role === "holds") {
    await cache.getOrSet("second", 60, async () => {
      await redis.set(`${namespace}held`, "yes");
      return new Promise(() => undefined);
    });
  } else {
    await redis.set(`${namespace}taken over`, await cache.getOrSet("second", 60, () => "second"));
  }
  redis.disconnect();
};
