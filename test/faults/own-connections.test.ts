import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { CacheFence } from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { startRedisCluster } from "../support/redis-cluster.js";
import { startRedisSentinel } from "../support/redis-sentinel.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";
import { ManualRuntime } from "../support/manual-runtime.js";
import { startTcpProxy } from "../support/tcp-proxy.js";
import { until } from "../support/waiting.js";

describeOwnRedis("a connection of the library's own, where scripting is denied,", () => {
  describe.each(majors)("ioredis $name", (major) => {
    let server: RedisServer;
    let observer: Redis;
    let client: Redis;
    let cache: CacheFence;

    beforeAll(async () => {
      server = await startRedis();
      observer = new major.Redis(server.url);
      await observer.acl("SETUSER", "scriptless", "on", ">secret", "~*", "&*", "+@all", "-@scripting");
    });
    afterAll(async () => {
      observer.disconnect();
      await server.stop();
    });
    beforeEach(async () => {
      client = new major.Redis({ port: server.port, host: server.host, username: "scriptless", password: "secret" });
      cache = new CacheFence(client, { namespace: uniquePrefix(), beta: 0, redisTimeout: 5 });
      await client.ping();
    });
    afterEach(async () => {
      await observer.config("SET", "maxclients", "10000");
      await cache.close();
      client.disconnect();
    });

    /** True if hits of the healthy client go on as if nothing had happened. */
    async function hits(): Promise<boolean> {
      let recomputes = 0;
      for (let call = 0; call < 20; call++) await cache.getOrSet("warm", 60, () => ++recomputes);
      return recomputes === 0;
    }
    const connections = async () => Number(/connected_clients:(\d+)/.exec(await observer.info("clients"))?.[1]);

    it("that is refused for too many clients costs the healthy client nothing", async () => {
      await cache.set("warm", 60, "warm");
      await cache.close();
      await until("the own connection has gone", async () => (await connections()) === 2);
      await observer.config("SET", "maxclients", "2");
      await expect(cache.invalidate("other")).rejects.toThrow();
      expect(await hits()).toBe(true);
    });

    it("that is killed in mid-transaction costs the healthy client nothing", async () => {
      await cache.set("warm", 60, "warm");
      const own = await client.client("ID");
      // Held in the middle of its transaction.
      await observer.client("PAUSE", 60_000, "WRITE");
      const fence = cache.invalidate("other").catch((error: unknown) => error);
      let watching: string | undefined;
      await until("the transaction has begun", async () => {
        const clients = String(await observer.client("LIST")).split("\n");
        watching = clients.find((line) => line.includes("user=scriptless") && line.includes(" multi=0 "));
        return watching !== undefined;
      });
      const id = /id=(\d+)/.exec(watching!)![1]!;
      expect(id).not.toBe(String(own));
      await observer.client("KILL", "ID", id);
      await observer.client("UNPAUSE");
      expect(await fence).toMatchObject({ name: "RedisUnavailableError" });
      expect(await hits()).toBe(true);
    });
  });
});

describeOwnRedis("own connections", () => {
  /** Runs a process that opens them and then closes its client; what it printed, once it has ended by itself. */
  async function runToItsEnd(major: string, kind: string, ports: readonly number[]): Promise<string> {
    const fixture = fileURLToPath(new URL("../support/own-connections-end.ts", import.meta.url));
    const args = ["--import", "tsx", fixture, major, kind, ...ports.map(String)];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"], timeout: 25_000 });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
    const end = await new Promise((resolve) => child.once("exit", (code, signal) => resolve(signal ?? code)));
    return `${output.trim()}, ${String(end)}`;
  }

  it.each(majors)("of a Cluster do not keep a process alive: ioredis $name", async ({ name }) => {
    const cluster = await startRedisCluster();
    try {
      const ports = cluster.nodes.map(({ port }) => port);
      expect(await runToItsEnd(name, "cluster", ports)).toBe("heard, 0");
    } finally {
      await cluster.stop();
    }
  });

  it.each(majors)(
    "leave a server that the client leaves as soon as they are open: ioredis $name",
    async ({ Redis }) => {
      const [old, other] = await Promise.all([startRedis(), startRedis()]);
      const client = new Redis({ host: old.host, port: old.port });
      const observer = new Redis(old.url);
      try {
        const runtime = new ManualRuntime();
        const cache = new CacheFence(client, { namespace: uniquePrefix(), redisTimeout: 60 }, runtime);
        const mailboxes = async () => String(await observer.client("LIST")).match(/ sub=1 /g)?.length ?? 0;
        await cache.getOrSet("k", 60, () => "value");
        await until("the mailbox is open", async () => (await mailboxes()) === 1);
        // As in a failover whose old primary lives on.
        client.options.port = other.port;
        client.disconnect(true);
        await until("the client is at the other", () => client.status === "ready");
        await until("the mailbox has left", async () => {
          await runtime.advance(100);
          return (await mailboxes()) === 0;
        });
        await cache.close();
      } finally {
        for (const each of [client, observer]) each.disconnect();
        await Promise.all([old.stop(), other.stop()]);
      }
    },
  );

  it.each(majors)("found by sentinels do not keep a process alive: ioredis $name", async ({ name }) => {
    const sentinel = await startRedisSentinel({ replicas: 0 });
    try {
      expect(await runToItsEnd(name, "sentinel", [sentinel.port])).toBe("heard, 0");
    } finally {
      await sentinel.stop();
    }
  });
});

describeOwnRedis("a mailbox", () => {
  it.each(majors)(
    "whose connection the network has lost without a word is opened again, ioredis $name",
    async (major) => {
      const server = await startRedis();
      const proxy = await startTcpProxy(server.port);
      const runtime = new ManualRuntime();
      const observer = new major.Redis(server.url);
      const client = new major.Redis(proxy.url);
      client.on("error", () => undefined);
      try {
        const cache = new CacheFence(client, { namespace: uniquePrefix() }, runtime);
        await cache.getOrSet("k", 60, () => 1);
        await until("it is there", async () => (await observer.pubsub("CHANNELS", "cachefence:*")).length === 1);
        const connections = proxy.accepted;
        // Nothing is heard in it but the answers to its questions, and it is kept.
        for (let halfSecond = 0; halfSecond < 80; halfSecond++) {
          await runtime.advance(500);
          await client.ping();
        }
        expect(String(await observer.client("LIST"))).toMatch(/ sub=1 .* cmd=ping /);
        expect(proxy.accepted).toBe(connections);
        proxy.swallow();
        await runtime.advance(15_000);
        await until("it was opened again", () => proxy.accepted === connections + 1);
        proxy.heal();
        await until("it is there again", async () => {
          await runtime.advance(500);
          const lines = String(await observer.call("CLIENT", "LIST", "TYPE", "pubsub")).split("\n");
          return lines.some((line) => / sub=1 .* cmd=subscribe /.test(line));
        });
        await cache.close();
      } finally {
        observer.disconnect();
        client.disconnect();
        await proxy.stop();
        await server.stop();
      }
    },
  );
});
