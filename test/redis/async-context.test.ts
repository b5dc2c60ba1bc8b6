import { AsyncLocalStorage } from "node:async_hooks";
import { execFile } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { CacheFence, type CacheFenceEvents, type CacheFenceOptions } from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { waitersOf } from "../support/audience.js";
import { deferred } from "../support/deferred.js";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { addScriptlessUser, scriptless } from "../support/keeps-its-promises.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";
import { until } from "../support/waiting.js";

const request = new AsyncLocalStorage<string>();

describe.each(majors)("a request's AsyncLocalStorage, ioredis $name,", (major) => {
  describeOwnRedis("in a service with a server", () => {
    let server: RedisServer;
    let raw: Redis;
    let namespace: string;
    const clients: Redis[] = [];

    beforeAll(async () => {
      server = await startRedis();
      raw = new major.Redis(server.url);
      await addScriptlessUser(raw);
    });
    afterAll(async () => {
      raw.disconnect();
      await server.stop();
    });
    beforeEach(() => {
      namespace = uniquePrefix();
    });
    afterEach(() => {
      for (const client of clients.splice(0)) client.disconnect();
    });
    const open = (options: CacheFenceOptions = {}): CacheFence => {
      const client = new major.Redis(server.url);
      clients.push(client);
      return new CacheFence(client, { namespace, beta: 0, redisTimeout: 20, ...options });
    };
    const seen = () => request.getStore();
    const later = async () => {
      await raw.ping();
      return seen();
    };

    it("is seen by the recompute, its `ttl` and what they await: that of the call which began it, of all that join", async () => {
      const cache = open();
      const gate = deferred();
      const stores: unknown[] = [];
      const source = async () => {
        stores.push(seen());
        await gate.promise;
        stores.push(await later());
        return "value";
      };
      const ttl = () => (stores.push(seen()), 60);
      const first = request.run("first", () => cache.getOrSet("key", ttl, source));
      await until("it has begun", () => stores.length === 1);
      const second = request.run("second", async () => [await cache.getOrSet("key", ttl, source), seen()]);
      gate.resolve();
      expect(await Promise.all([first, second])).toEqual(["value", ["value", "second"]]);
      expect(stores).toEqual(["first", "first", "first"]);
    });

    it("is seen by the recompute of a list, of a definition, and in the background", async () => {
      const cache = open({ staleFor: 60, earlyRefresh: "background" });
      const list = request.run("list", () =>
        cache.getOrSetMany([1, 2], String, 60, async () => [seen(), await later()]),
      );
      expect([...(await list).values()]).toEqual(["list", "list"]);
      const definition = cache.define({ key: (name: string) => `d:${name}`, ttl: 60, recompute: later });
      expect(await request.run("definition", () => definition.get("one"))).toBe("definition");
      await cache.set("stale", 0.001, "old");
      await until("it is stale", async () => (await cache.peek("stale"))!.remaining < 0);
      expect(await request.run("background", () => cache.getOrSet("stale", 60, later))).toBe("old");
      await cache.idle();
      expect(await cache.peek("stale")).toMatchObject({ value: "background" });
    });

    it("is seen by a recompute that had to wait for another process, until a message woke it", async () => {
      const [one, other] = [open(), open()];
      const failing = deferred<string>();
      const held = one.getOrSet("key", 60, () => failing.promise).catch(() => undefined);
      await until("it holds the lock", async () => (await raw.exists(`${namespace}key:lock`)) === 1);
      const waiting = request.run("waiter", () => other.getOrSet("key", 60, later));
      await until("the other waits", async () => (await waitersOf(raw, `${namespace}key`)) === 1);
      failing.reject(new Error("no"));
      await held;
      expect(await waiting).toBe("waiter");
    });

    it("is seen by listeners to events: of a call its own, of a rebuild that of the call which began it, of a recall none", async () => {
      const [one, other] = [open({ memory: new Map(), memoryLease: 60 }), open()];
      const heard: string[] = [];
      const names = ["hit", "miss", "rebuild-start", "rebuild-end", "copy-dropped"] as const;
      const listeners = names.map((name) => {
        const hear = (message: unknown) => {
          const event = message as CacheFenceEvents["cachefence:miss"];
          if (event.namespace === namespace) heard.push(`${name}: ${seen()}`);
        };
        subscribe(`cachefence:${name}`, hear);
        return () => unsubscribe(`cachefence:${name}`, hear);
      });
      const gate = deferred();
      const call = (name: string) => request.run(name, () => one.getOrSet("key", 60, () => gate.promise));
      const first = call("first");
      await until("it has begun", () => heard.length === 2);
      const second = call("second");
      await until("it has joined", () => heard.length === 3);
      gate.resolve();
      await Promise.all([first, second]);
      expect(heard.splice(0)).toEqual(["miss: first", "rebuild-start: first", "miss: second", "rebuild-end: first"]);
      await one.invalidate("key");
      heard.length = 0;
      await Promise.all(["third", "fourth", "fifth"].map(call));
      expect(heard.splice(0).filter((event) => event.startsWith("miss"))).toEqual([
        "miss: third",
        "miss: fourth",
        "miss: fifth",
      ]);
      let source: string | undefined;
      while (source !== "memory") {
        ({ source } = await request.run("reader", () => one.getOrSetEntry("key", 60, () => undefined)));
      }
      await request.run("fence", () => other.invalidate("key"));
      expect(new Set(heard)).toEqual(new Set(["hit: reader", "copy-dropped: undefined"]));
      for (const stop of listeners) stop();
    });

    it.each([
      ["", []],
      [" where scripting is denied", [scriptless.username, scriptless.password]],
    ])("is kept by nothing once its request is over%s", async (_, credentials) => {
      const fixture = fileURLToPath(new URL("../support/context-residue.ts", import.meta.url));
      const args = ["--expose-gc", "--import", "tsx", fixture, major.name, String(server.port), ...credentials];
      const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 25_000 });
      expect(JSON.parse(stdout)).toMatchObject({ kept: ["a timer of its own"] });
    });
  });
});
