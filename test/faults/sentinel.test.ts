import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { CacheFence } from "cachefence";
import { Redis as AnyRedis, type Redis, type RedisOptions } from "ioredis";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { addScriptlessUser, pairOver, promises, scriptless } from "../support/keeps-its-promises.js";
import { type RedisSentinel, startRedisSentinel } from "../support/redis-sentinel.js";
import type { RedisServer } from "../support/redis-server.js";
import { until } from "../support/waiting.js";

// No test lasts as long as this lease: a lock that is gone was freed by somebody, or taken over after a second.
const lockTimeout = 60;
const waitForLock = 1;
const keys = ["key-1", "key-2", "key-3", "key-4"];

describeOwnRedis("a failover by Sentinel under load", () => {
  describe.each(majors)("ioredis $name", (major) => {
    let sentinel: RedisSentinel;
    let namespace: string;
    const clients: Redis[] = [];
    const children: ChildProcess[] = [];

    beforeEach(async () => {
      namespace = uniquePrefix();
      sentinel = await startRedisSentinel({ replicas: 1 });
      // Users are not replicated.
      for (const { url } of sentinel.servers) {
        const admin = new AnyRedis(url);
        await addScriptlessUser(admin);
        admin.disconnect();
      }
    });
    afterEach(async () => {
      for (const client of clients.splice(0)) client.disconnect();
      for (const child of children.splice(0)) child.kill("SIGKILL");
      await sentinel.stop();
    });

    function connect(options: RedisOptions = {}): Redis {
      const client = new major.Redis({
        ...sentinel.connection,
        failoverDetector: true,
        // Duplicates of a client have its name.
        connectionName: namespace,
        ...options,
      });
      client.on("error", () => undefined);
      // The detector may end a client for good, when it hears of the new primary while that connects: docs/cluster.md.
      client.on("end", () => {
        if (clients.includes(client)) client.connect().catch(() => undefined);
      });
      clients.push(client);
      return client;
    }

    /** Services that ask for short-lived keys, until they are told to stop. Resolves to what went wrong. */
    function startLoad(caches: readonly CacheFence[]): () => Promise<unknown[]> {
      const failures: unknown[] = [];
      let isOver = false;
      const ask = async (cache: CacheFence, key: string) => {
        const value = await cache.getOrSet(key, 0.05, () => sleep(5, key));
        if (value !== key) failures.push(value);
      };
      const runs = caches.map(async (cache) => {
        while (!isOver) {
          const calls = [...keys, ...keys].map((key) => ask(cache, key));
          await Promise.all(calls).catch((error: unknown) => failures.push(error));
          await sleep(5);
        }
      });
      return async () => {
        isOver = true;
        await Promise.all(runs);
        return failures;
      };
    }

    /** Long before the sentinel demotes a planned failover's old primary, which ends its connections: that is after 10 s. */
    async function untilNobodyIsLeftAt(old: RedisServer): Promise<void> {
      const admin = new AnyRedis(old.url);
      try {
        const isEmpty = async () => !String(await admin.call("CLIENT", "LIST")).includes(` name=${namespace} `);
        await until("no connection is left at the old primary", isEmpty, 4_000);
      } finally {
        admin.disconnect();
      }
    }

    /**
     * Every client has its mailbox at the server to which the first one leads, to stay: one that was there before its client
     * has seen that move, and is opened anew within a second. What is told meanwhile is told in vain, and a lease ends it.
     */
    async function haveMailboxes(clients: readonly Redis[]): Promise<boolean> {
      const lines = String(await clients[0]!.call("CLIENT", "LIST")).split("\n");
      const mailboxes = lines.filter((line) => line.includes(` name=${namespace} `) && line.includes(" sub=1 "));
      const staySeconds = mailboxes.map((line) => Number(/ age=(\d+) /.exec(line)?.[1]));
      return mailboxes.length === clients.length && staySeconds.every((seconds) => seconds >= 3);
    }

    /** A process that lives through the failover, and what it has printed and ended with once it is told to go on. */
    async function startProcess(detector: boolean): Promise<() => Promise<string>> {
      const fixture = fileURLToPath(new URL("../support/sentinel-end.ts", import.meta.url));
      const args = [major.name, String(sentinel.port), String(detector), `${namespace}${detector}:`];
      const child = spawn(process.execPath, ["--import", "tsx", fixture, ...args], {
        stdio: ["pipe", "pipe", "inherit"],
      });
      children.push(child);
      let output = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
      const ended = new Promise((resolve) => child.once("exit", (code, signal) => resolve(signal ?? code)));
      await until("it is at work", () => output.includes("before"), 30_000);
      return async () => {
        child.stdin.write("go on\n");
        const end = await ended;
        return `${output.trim()}, ${String(end)}`;
      };
    }

    it.each([
      ["that is planned", "planned", [true]],
      ["after its primary is killed", "killed", [true, false]],
    ] as const)(
      "%s: every call gets its value, own connections follow, and processes end by themselves",
      async (_, kind, detectors) => {
        const scripted = [connect(), connect()] as const;
        const watching = [connect(scriptless), connect(scriptless)] as const;
        const all = [...scripted, ...watching];
        const caches = all.map((client) => new CacheFence(client, { namespace, lockTimeout, waitForLock }));
        const processes = await Promise.all(detectors.map(startProcess));
        const stopLoad = startLoad(caches);
        await until("all are at work", () => caches.every((cache) => cache.stats().rebuilds > 0));

        const before = await sentinel.primary();
        if (kind === "planned") await sentinel.failover();
        else before.process.kill("SIGKILL");
        await until("the sentinel names another primary", async () => (await sentinel.primary()) !== before, 30_000);
        const { port } = await sentinel.primary();
        const isThere = (client: Redis) =>
          client.status === "ready" &&
          (client as unknown as { stream: { remotePort: number } }).stream.remotePort === port;
        await until("all clients are there", () => all.every(isThere), 20_000);
        await until("the primary takes writes", () =>
          scripted[0].set(`${namespace}written`, 1).then(Boolean, () => false),
        );
        if (kind === "planned") await untilNobodyIsLeftAt(before);
        expect(await stopLoad()).toEqual([]);
        // A release that was not replicated has left its lock: whoever asks next takes it over.
        await Promise.all(keys.map((key) => caches[0]!.getOrSet(key, 60, () => key)));

        // Mailboxes and connections for WATCH are at the new primary: what needs them holds there. Not before: a holder whose
        // mailbox is on its way may cost a rebuild more.
        await until("all mailboxes have followed", () => haveMailboxes(all), 20_000);
        const pairs = [pairOver(scripted), pairOver(watching, false)];
        await Promise.all(pairs.flatMap((pair) => Object.values(promises).map((keep) => keep(pair))));
        await until("no lock is left", async () => (await scripted[0].keys(`${namespace}*:lock`)).length === 0);
        expect(await Promise.all(processes.map((goOn) => goOn()))).toEqual(processes.map(() => "before\nafter, 0"));
      },
      120_000,
    );
  });
});
