import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type * as cachefence from "cachefence";
import { build } from "esbuild";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { describeRedis, removeKeys, uniquePrefix } from "../support/describe-redis.js";
import { majors } from "../support/ioredis.js";
import { itKeepsItsPromises, type Open } from "../support/keeps-its-promises.js";

type Package = typeof cachefence;

describeRedis("a minified bundle, as an ES module and as CommonJS in one process,", (url) => {
  let directory: string;
  let imported: Package;
  let required: Package;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "cachefence-bundle-"));
    const bundle = async (format: "esm" | "cjs", extension: "mjs" | "cjs") => {
      const outfile = join(directory, `bundle.${extension}`);
      await build({ entryPoints: ["src/index.ts"], bundle: true, minify: true, platform: "node", format, outfile });
      return outfile;
    };
    const file = pathToFileURL(await bundle("esm", "mjs")).href;
    imported = (await import(/* @vite-ignore */ file)) as Package;
    required = createRequire(import.meta.url)(await bundle("cjs", "cjs")) as Package;
  });
  afterAll(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  describe.each(majors)("ioredis $name", (major) => {
    const clients: Redis[] = [];
    const connect = (): Redis => {
      const client = new major.Redis(url);
      clients.push(client);
      return client;
    };
    afterEach(() => {
      for (const client of clients.splice(0)) client.disconnect();
    });

    itKeepsItsPromises(() => {
      const [one, other] = [connect(), connect()];
      // The constructor's third parameter is none of the public types.
      const open = ({ CacheFence }: Package, client: Redis): Open => {
        const Constructor = CacheFence as new (client: Redis, ...rest: Parameters<Open>) => cachefence.CacheFence;
        return (...rest) => new Constructor(client, ...rest);
      };
      return { open: [open(imported, one), open(required, other)], raw: one, isScripted: true, showsDeath: true };
    });

    it("has errors that both copies know by `instanceof`, under their own names", async () => {
      const namespace = uniquePrefix();
      const client = connect();
      await client.set(`${namespace}foreign`, "text");
      const gone = connect();
      gone.disconnect();
      const copies = [
        [imported, required],
        [required, imported],
      ] as const;
      for (const [from, to] of copies) {
        const cache = new from.CacheFence(client, { namespace });
        const failing = {
          RecomputeError: () => cache.getOrSet("key", 60, () => Promise.reject(new Error("no"))),
          RecomputeTimeoutError: () =>
            cache.getOrSet("slow", 60, () => new Promise(() => undefined), {
              recomputeTimeout: 0.01,
            }),
          SerializationError: () => cache.getOrSet("big", 60, () => 1n),
          CacheFenceError: () => cache.getOrSet("foreign", 60, () => 1),
          RedisUnavailableError: () => new from.CacheFence(gone, { namespace }).invalidate("key"),
        };
        for (const [name, call] of Object.entries(failing)) {
          const error = await call().then(
            () => undefined,
            (thrown: unknown) => thrown as Error,
          );
          expect(error).toBeInstanceOf(to[name as keyof typeof failing]);
          expect(error).toBeInstanceOf(to.CacheFenceError);
          expect(error?.name).toBe(name);
          expect(error).not.toBeInstanceOf(name === "RecomputeError" ? to.SerializationError : to.RecomputeError);
        }
      }
      await removeKeys(client, namespace);
    });

    it("publishes what happens in either copy on the same channels", async () => {
      const namespace = uniquePrefix();
      const client = connect();
      const heard: unknown[] = [];
      const hear = (message: unknown) => void heard.push(message);
      subscribe("cachefence:miss", hear);
      for (const { CacheFence } of [imported, required]) {
        await new CacheFence(client, { namespace }).getOrSet("key", 60, () => 1);
        await new CacheFence(client, { namespace }).invalidate("key");
      }
      unsubscribe("cachefence:miss", hear);
      const miss = { namespace, key: "key" };
      expect(heard).toEqual([miss, miss]);
      await removeKeys(client, namespace);
    });
  });
});
