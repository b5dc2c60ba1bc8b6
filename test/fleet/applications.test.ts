import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeRedis, removeKeys, uniquePrefix } from "../support/describe-redis.js";

const root = join(import.meta.dirname, "../..");
const modules = join(root, "node_modules");
// A dozen programs start one after the other.
const testTimeoutMs = 60_000;

// How a service may be put together, each a program of its own over the built package. All do the same: three threads or
// processes ask at once for one cold key, then the one that rebuilds another is ended in the middle of it.
describeRedis("an application that is made of", (redisUrl) => {
  let folder: string;
  let redis: Redis;

  beforeAll(() => {
    redis = new Redis(redisUrl);
    folder = mkdtempSync(join(tmpdir(), "cachefence-applications-"));
    const cachefence = join(folder, "node_modules/cachefence");
    mkdirSync(cachefence, { recursive: true });
    cpSync(join(root, "package.json"), join(cachefence, "package.json"));
    const tsup = [
      join(modules, "tsup/dist/cli-default.js"),
      "--silent",
      "--no-dts",
      "--out-dir",
      join(cachefence, "dist"),
    ];
    execFileSync(process.execPath, tsup, { cwd: root });
    symlinkSync(join(modules, "ioredis"), join(folder, "node_modules/ioredis"), "dir");
    cpSync(join(import.meta.dirname, "../support/applications"), folder, { recursive: true });
  }, 120_000);
  afterAll(() => {
    redis.disconnect();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Runs a program to its end; what it printed. */
  async function run(program: string): Promise<unknown> {
    const namespace = uniquePrefix();
    const child = spawn(process.execPath, [program, redisUrl, namespace], {
      cwd: folder,
      stdio: ["ignore", "pipe", "inherit"],
      timeout: testTimeoutMs,
    });
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
    const end = await new Promise((resolve) => child.once("close", (code, signal) => resolve(signal ?? code)));
    await removeKeys(redis, namespace);
    expect({ end, said }).toMatchObject({ end: 0 });
    return JSON.parse(said);
  }

  const expected = { values: ["first", "first", "first"], recomputes: 1, afterTheEnd: "second" };

  it(
    "worker threads",
    async () => {
      expect(await run("threads.mjs")).toEqual(expected);
    },
    testTimeoutMs,
  );

  it(
    "a node:cluster of CommonJS modules",
    async () => {
      expect(await run("cluster.cjs")).toEqual(expected);
    },
    testTimeoutMs,
  );

  describe("one file, bundled by esbuild with ioredis and all", () => {
    it.each([
      ["an ES module", "esm", "bundle.mjs"],
      ["a CommonJS module", "cjs", "bundle.cjs"],
    ])(
      "as %s",
      async (_, format, file) => {
        const bundled = join(folder, "bundled");
        const esbuild = join(modules, "esbuild/bin/esbuild");
        // What bundled CommonJS modules require of Node has to be found from an ES module.
        const banner = `import { createRequire } from "node:module"; const require = createRequire(import.meta.url);`;
        execFileSync(process.execPath, [
          esbuild,
          join(folder, "alone.mjs"),
          "--bundle",
          "--platform=node",
          "--log-level=warning",
          `--format=${format}`,
          `--outfile=${join(bundled, file)}`,
          ...(format === "esm" ? [`--banner:js=${banner}`] : []),
        ]);
        // Nothing but the one file.
        writeFileSync(join(bundled, "package.json"), "{}");
        expect(await run(join("bundled", file))).toEqual({
          values: ["first", "first", "first"],
          recomputes: 1,
          memoryHits: 1,
        });
      },
      testTimeoutMs,
    );
  });
});
