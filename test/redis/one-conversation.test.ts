import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { CacheFence } from "cachefence";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, it } from "vitest";
import { deferred } from "../support/deferred.js";
import { waitersOf } from "../support/audience.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import type { RedisServer } from "../support/redis-server.js";
import { startRedis } from "../support/redis-server.js";
import { until } from "../support/waiting.js";

for (const major of majors) {
  describeOwnRedis(`caches over one client, ioredis ${major.name}`, () => {
    let server: RedisServer;
    let raw: Redis;
    beforeAll(async () => {
      server = await startRedis();
      raw = new Redis(server.url);
    });
    afterAll(async () => {
      raw.disconnect();
      await server.stop();
    });

    const connections = async () => ((await raw.client("LIST")) as string).trim().split("\n").length;
    const mailboxes = async () => ((await raw.pubsub("CHANNELS", "cachefence:*")) as string[]).length;

    it("share one mailbox, however many they are, and it ends with the client", async () => {
      const client = new major.Redis(server.url);
      await client.ping();
      const before = await connections();
      for (let request = 0; request < 60; request++) {
        const cache = new CacheFence(client, { namespace: `${uniquePrefix()}:` });
        expect(await cache.getOrSet("k", 60, () => request)).toBe(request);
      }
      expect(await connections()).toBe(before + 1);
      expect(await mailboxes()).toBe(1);
      client.disconnect();
      await until("the mailbox has gone", async () => (await mailboxes()) === 0);
    });

    it("share one connection for WATCH where scripting is denied", async () => {
      await raw.call("ACL", "SETUSER", "unscripted", "on", ">p", "~*", "&*", "+@all", "-@scripting");
      const client = new major.Redis(server.port, server.host, { username: "unscripted", password: "p" });
      await client.ping();
      const before = await connections();
      for (let request = 0; request < 20; request++) {
        const cache = new CacheFence(client, { namespace: uniquePrefix(), redisTimeout: 20 });
        expect(await cache.getOrSet("k", 60, () => request)).toBe(request);
        await cache.invalidate("k");
      }
      expect(await connections()).toBe(before + 2);
      client.disconnect();
      await until("both have gone", async () => (await connections()) === before - 1);
    });

    it("can be told apart by the namespace of their events", async () => {
      const client = new major.Redis(server.url);
      const [one, other] = [uniquePrefix(), uniquePrefix()];
      const seen: string[] = [];
      const listener = (message: unknown) => void seen.push((message as { namespace: string }).namespace);
      subscribe("cachefence:miss", listener);
      try {
        await new CacheFence(client, { namespace: one }).getOrSet("k", 60, () => 1);
        await new CacheFence(client, { namespace: other }).getOrSet("k", 60, () => 1);
      } finally {
        unsubscribe("cachefence:miss", listener);
        client.disconnect();
      }
      expect(seen).toEqual([one, other]);
    });

    it("are woken by nothing that happens to the same key in another database", async () => {
      const namespace = uniquePrefix();
      const clients = [0, 3].map((db) => new major.Redis(server.port, server.host, { db }));
      const [there, here] = clients.map(
        (client) => new CacheFence(client, { namespace, waitForLock: 60, redisTimeout: 20 }),
      );
      const holder = new major.Redis(server.port, server.host, { db: 3 });
      const gate = deferred<string>();
      const rebuilt = new CacheFence(holder, { namespace, redisTimeout: 20 }).getOrSet("k", 60, () => gate.promise);
      await until("it holds the lock", async () => (await holder.get(`${namespace}k:lock`)) !== null);
      const waiting = here!.getOrSet("k", 60, () => "never");
      await until("it waits", async () => (await waitersOf(holder, `${namespace}k`)) === 1);
      for (let fence = 0; fence < 100; fence++) await there!.invalidate("k");
      gate.resolve("value");
      expect(await Promise.all([rebuilt, waiting])).toEqual(["value", "value"]);
      expect(here!.stats()).toMatchObject({ waits: 1, rebuilds: 0 });
      for (const client of [...clients, holder]) client.disconnect();
    });
  });

  describeOwnRedis(`a plain client of a server in cluster mode, ioredis ${major.name}`, () => {
    let server: RedisServer;
    let client: Redis;
    beforeAll(async () => {
      server = await startRedis({ args: ["--cluster-enabled", "yes"] });
      client = new major.Redis(server.url);
      await client.call("CLUSTER", "ADDSLOTS", ...Array.from({ length: 16_384 }, (_, slot) => String(slot)));
      await until("it has its slots", async () =>
        String(await client.call("CLUSTER", "INFO")).includes("cluster_state:ok"),
      );
    });
    afterAll(async () => {
      client.disconnect();
      await server.stop();
    });

    it("caches, fences, and names its locks as a Cluster does", async () => {
      const cache = new CacheFence(client);
      const gate = deferred<string>();
      const call = cache.getOrSet("key", 60, () => gate.promise);
      await until("it holds the lock", async () => (await client.get("{key}:lock")) !== null);
      gate.resolve("value");
      expect(await call).toBe("value");
      expect(await cache.getOrSet("key", 60, () => "again")).toBe("value");
      await cache.invalidate("key");
      await cache.set("key", 60, "set");
      expect(await cache.getOrSet("key", 60, () => "again")).toBe("set");
      expect(await cache.getOrSet("tagged", 60, () => "one", { tags: ["t"] })).toBe("one");
      await cache.invalidateTags("t");
      expect(await cache.getOrSet("tagged", 60, () => "two", { tags: ["t"] })).toBe("two");
    });
  });
}
