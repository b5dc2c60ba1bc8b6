import { setTimeout as sleep } from "node:timers/promises";
import { CacheFence } from "cachefence";
import type { Redis, RedisOptions } from "ioredis";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.js";
import { until } from "../support/waiting.js";

const redisTimeout = 0.5;
// No test lasts as long as this lease: a lock that is gone was freed by somebody.
const lockTimeout = 60;
// A lock whose release did not reach the replica before it was promoted is waited for this long, then taken over.
const waitForLock = 1;

describeOwnRedis("a replica promoted under load", () => {
  describe.each(majors)("ioredis $name", (major) => {
    let primary: RedisServer;
    let replica: RedisServer;
    let proxy: TcpProxy;
    let toReplica: Redis;
    let namespace: string;
    const clients: Redis[] = [];

    beforeEach(async () => {
      namespace = uniquePrefix();
      const args = ["--repl-diskless-sync-delay", "0"];
      primary = await startRedis({ args });
      replica = await startRedis({ args: [...args, "--replicaof", primary.host, String(primary.port)] });
      proxy = await startTcpProxy(primary.port);
      toReplica = openClient(replica.port);
      await until("the replica follows", async () =>
        (await toReplica.info("replication")).includes("master_link_status:up"),
      );
    });
    afterEach(async () => {
      for (const client of clients.splice(0)) client.disconnect();
      await proxy.stop();
      await replica.stop();
      await primary.stop();
    });

    function openClient(port = proxy.port, options: RedisOptions = {}): Redis {
      const client = new major.Redis(port, "127.0.0.1", { retryStrategy: () => 50, ...options });
      client.on("error", () => undefined);
      clients.push(client);
      return client;
    }

    /** Two services that ask for keys, most of them short-lived, until they are told to stop. */
    function startLoad(clientOptions: RedisOptions = {}) {
      const fences = [1, 2].map(
        () =>
          new CacheFence(openClient(proxy.port, clientOptions), { namespace, redisTimeout, lockTimeout, waitForLock }),
      );
      const failures: unknown[] = [];
      let isOver = false;
      let most = 0;
      const begun = new Map<string, number>();
      const runs = fences.map(async (cache) => {
        const running = new Map<string, number>();
        const ask = async (key: string) => {
          const value = await cache.getOrSet(key, 0.05, async () => {
            begun.set(key, (begun.get(key) ?? 0) + 1);
            const count = (running.get(key) ?? 0) + 1;
            running.set(key, count);
            most = Math.max(most, count);
            await sleep(5);
            running.set(key, running.get(key)! - 1);
            return key;
          });
          if (value !== key) failures.push(value);
        };
        while (!isOver) {
          await Promise.all([1, 2, 3, 4, 4, 4].map((number) => ask(`key-${number}`))).catch((error: unknown) => {
            failures.push(error);
          });
        }
      });
      return {
        fences,
        /** Whatever lock of a key the replica has kept has been waited for, and taken over. */
        rebuildsEach: async () => {
          const before = new Map(begun);
          await until("each key has been rebuilt twice", () =>
            [...before].every(([key, count]) => begun.get(key)! >= count + 2),
          );
        },
        stop: async () => {
          isOver = true;
          await Promise.all(runs);
          for (const cache of fences) await cache.close();
          return { failures, most };
        },
      };
    }

    async function showRecovered(fences: readonly CacheFence[]) {
      for (const [number, cache] of fences.entries()) {
        await until("it rebuilds under a lock again", async () => {
          const key = `after-${number}-${Math.random()}`;
          await cache.getOrSet(key, 60, () => "value");
          return (await toReplica.exists(namespace + key)) === 1;
        });
      }
      await fences[0]!.set("fenced", 60, "old");
      expect(await fences[1]!.getOrSet("fenced", 60, () => "source")).toBe("old");
      await fences[1]!.invalidate("fenced");
      expect(await fences[0]!.getOrSet("fenced", 60, () => "new")).toBe("new");
    }

    async function showNoLockLeft() {
      await until("no lock is left", async () => (await toReplica.keys(`${namespace}*:lock`)).length === 0);
    }

    it("is used once the connections lead to it; meanwhile every call gets its value", async () => {
      const load = startLoad();
      await until("both are at work", () => load.fences.every((cache) => cache.stats().rebuilds > 5));
      primary.process.kill("SIGSTOP");
      await until("they have noticed", () => load.fences.every((cache) => cache.stats().redisErrors > 0));
      await toReplica.replicaof("NO", "ONE");
      proxy.leadTo(replica.port);
      proxy.cut();
      await showRecovered(load.fences);
      await load.rebuildsEach();
      expect(await load.stop()).toEqual({ failures: [], most: 1 });
      await showNoLockLeft();
    });

    it("is found by a client that reconnects when the old primary says READONLY", async () => {
      const load = startLoad({ reconnectOnError: (error) => error.message.includes("READONLY") });
      await until("both are at work", () => load.fences.every((cache) => cache.stats().rebuilds > 5));
      await toReplica.replicaof("NO", "ONE");
      proxy.leadTo(replica.port);
      // The connections stay on the old primary until a write is refused there.
      await openClient(primary.port).replicaof(replica.host, replica.port);
      await showRecovered(load.fences);
      await load.rebuildsEach();
      expect(await load.stop()).toEqual({ failures: [], most: 1 });
      await showNoLockLeft();
    });
  });
});
