import { existsSync, readFileSync } from "node:fs";
import type { CacheFenceOptions } from "../../src/index.js";
import type { OpenCache } from "../contender.js";
import { repositoryFolder } from "../harness/folders.js";
import { connect } from "./connect.js";

// The build, as users get it: measuring the sources through a loader would measure the loader. Types come from the sources.
const build = new URL("dist/index.js", repositoryFolder);
const manifest = JSON.parse(readFileSync(new URL("package.json", repositoryFolder), "utf8")) as { version: string };

export const cachefenceVersion = `${manifest.version}, this repository's build`;

export const FENCE_PROMISE = "no later call gets it";

export async function openCacheFence(url: string, options?: CacheFenceOptions): Promise<OpenCache> {
  if (!existsSync(build)) throw new Error("cachefence is not built: run `npm run build` in the repository first");
  const { CacheFence } = (await import(build.href)) as typeof import("../../src/index.js");
  const redis = await connect(url);
  const cache = new CacheFence(redis, options);
  return {
    get: <T>(key: string, ttlSeconds: number, recompute: () => Promise<T>) =>
      cache.getOrSet<T>(key, ttlSeconds, recompute),
    async getMany<T>(
      keys: readonly string[],
      ttlSeconds: number,
      recompute: (missing: readonly string[]) => Promise<T[]>,
    ): Promise<T[]> {
      const found = await cache.getOrSetMany<string, T>(keys, (key) => key, ttlSeconds, recompute);
      return [...found.values()];
    },
    invalidate: (key) => cache.invalidate(key),
    async close() {
      await cache.close();
      redis.disconnect();
    },
  };
}
