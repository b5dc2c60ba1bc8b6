import { CacheFence, type CacheFenceOptions } from "cachefence";
import type { Cluster } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { slotOf } from "../../src/link/slots.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { type RedisCluster, startRedisCluster } from "../support/redis-cluster.js";
import { ended, until } from "../support/waiting.js";

describeOwnRedis("a Redis Cluster of which one master is silent", () => {
  let servers: RedisCluster;
  beforeAll(async () => {
    servers = await startRedisCluster();
  });
  afterAll(() => servers.stop());

  describe.each(majors)("ioredis $name", (major) => {
    let client: Cluster;
    let cache: CacheFence;
    let recomputes: string[];
    let healthy: string[];
    let silent: string[];

    const redisTimeout = 2;
    const open = (options: CacheFenceOptions = {}) => new CacheFence(client, { namespace, redisTimeout, ...options });
    let namespace: string;
    const read = (key: string) =>
      cache.getOrSet(key, 60, () => {
        recomputes.push(key);
        return key;
      });

    beforeEach(async () => {
      namespace = uniquePrefix();
      client = new major.Cluster(servers.nodes);
      client.on("error", () => undefined);
      cache = open({ beta: 0 });
      recomputes = [];
      await until("the client is ready", () => client.status === "ready");
      const keys = Array.from({ length: 40 }, (_, number) => `key-${number}`);
      const isSilent = (key: string) => servers.masterOf(slotOf(namespace + key)) === servers.masters[0];
      silent = keys.filter(isSilent);
      healthy = keys.filter((key) => !isSilent(key));
      // Until all are stored: a master may be slow once.
      await until("all are hits", async () => {
        recomputes = [];
        await Promise.all(keys.map(read));
        return recomputes.length === 0;
      });
      servers.masters[0]!.process.kill("SIGSTOP");
    });
    afterEach(async () => {
      servers.masters[0]!.process.kill("SIGCONT");
      await cache.close();
      client.disconnect();
    });

    it("pays the deadline for that master once, and not at all for the others", async () => {
      const slow: string[] = [];
      for (const [number, key] of silent.slice(0, 8).entries()) {
        const other = healthy[number]!;
        for (const asked of [key, other]) {
          if ((await ended(read(asked))).ms > redisTimeout * 500) slow.push(asked);
        }
      }
      // A second deadline may fall due where a machine is slow: a probe a second is let through.
      expect(slow.length).toBeLessThanOrEqual(2);
      expect(slow.every((key) => silent.includes(key))).toBe(true);
      expect(recomputes).toEqual(silent.slice(0, 8));
    });

    it("goes on serving, storing and fencing the keys of the others meanwhile", async () => {
      await Promise.all([...silent, ...healthy].map(read));
      expect(recomputes.sort()).toEqual([...silent].sort());
      recomputes = [];
      await cache.invalidate(...healthy);
      await Promise.all(healthy.map(read));
      await Promise.all(healthy.map(read));
      expect(recomputes.sort()).toEqual([...healthy].sort());
      await expect(cache.invalidate(silent[0]!)).rejects.toThrow("did not answer");
    });

    it("serves that master's keys again as soon as it answers", async () => {
      await read(silent[0]!);
      expect(recomputes).toEqual([silent[0]]);
      servers.masters[0]!.process.kill("SIGCONT");
      await until("it is a hit again", async () => {
        recomputes = [];
        await read(silent[1]!);
        return recomputes.length === 0;
      });
    });
  });
});

describeOwnRedis("a Redis Cluster of which one master is killed", () => {
  it.each(majors)("says of a fence what has failed, and of which key: ioredis $name", async (major) => {
    const servers = await startRedisCluster();
    const client = new major.Cluster(servers.nodes);
    client.on("error", () => undefined);
    const namespace = uniquePrefix();
    const cache = new CacheFence(client, { namespace, redisTimeout: 4, beta: 0 });
    const gaveUp = /^(?:The client gave the command up|Redis did not answer within redisTimeout)/;
    try {
      const keys = Array.from({ length: 40 }, (_, number) => `key-${number}`);
      await cache.invalidate(keys);
      const dead = servers.masters[0]!;
      dead.process.kill("SIGKILL");
      const lost = keys.filter((key) => servers.masterOf(slotOf(namespace + key)) === dead);
      const fences = await Promise.all(lost.map((key) => ended(cache.invalidate(key))));
      // Not the bare "Too many Cluster redirections" that the client comes to after 1.6 s.
      expect(fences.map(({ error }) => error)).toMatchObject(
        lost.map((key) => ({ name: "RedisUnavailableError", key, message: expect.stringMatching(gaveUp) as string })),
      );
    } finally {
      await cache.close();
      client.disconnect();
      await servers.stop();
    }
  });
});
