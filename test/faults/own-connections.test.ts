import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CacheFence } from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { startRedisCluster } from "../support/redis-cluster.js";
import { findServerBinary, type RedisServer, startRedis } from "../support/redis-server.js";
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

    it("is looked after by the kernel, for it may say nothing for hours and its other end may be gone", async () => {
      const keepAlive = vi.spyOn(Socket.prototype, "setKeepAlive");
      try {
        await cache.getOrSet("key", 60, () => 1); // Its mailbox, and WATCH.
        expect(keepAlive.mock.calls).toEqual([
          [true, 5000],
          [true, 5000],
        ]);
      } finally {
        keepAlive.mockRestore();
      }
    });

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
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"], timeout: 15_000 });
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

  it.each(majors)("found by sentinels do not keep a process alive: ioredis $name", async ({ name }) => {
    const primary = await startRedis();
    // A server that gives its port back: the sentinel takes it over at once.
    const placeholder = await startRedis();
    await placeholder.stop();
    const directory = mkdtempSync(join(tmpdir(), "cachefence-sentinel-"));
    const config = join(directory, "sentinel.conf");
    writeFileSync(config, `port ${placeholder.port}\nsentinel monitor primary 127.0.0.1 ${primary.port} 1\n`);
    const sentinel = spawn(findServerBinary()!, [config, "--sentinel"], { cwd: directory, stdio: "ignore" });
    try {
      expect(await runToItsEnd(name, "sentinel", [placeholder.port])).toBe("heard, 0");
    } finally {
      sentinel.kill("SIGKILL");
      rmSync(directory, { recursive: true, force: true });
      await primary.stop();
    }
  });
});
