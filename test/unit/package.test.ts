import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

// What users get is the tarball, so it is built, packed and unpacked here, in a directory of its own: other tests and
// tools may be reading the repository's `dist` at this moment.
const repository = fileURLToPath(new URL("../..", import.meta.url));
const modules = join(repository, "node_modules");
const sources = ["src", "package.json", "tsconfig.json", "tsup.config.ts", "README.md", "LICENSE", "CHANGELOG.md"];

interface Manifest {
  readonly name: string;
  readonly dependencies?: Record<string, string>;
}

let workspace: string;
let packed: string[];
let unpacked: string;

beforeAll(() => {
  workspace = mkdtempSync(join(tmpdir(), "cachefence-package-"));
  const copy = join(workspace, "copy");
  mkdirSync(copy);
  for (const source of sources.filter((name) => existsSync(join(repository, name)))) {
    cpSync(join(repository, source), join(copy, source), { recursive: true });
  }
  symlinkSync(modules, join(copy, "node_modules"), "dir");
  run(copy, process.execPath, join(modules, "tsup/dist/cli-default.js"), "--silent");
  run(copy, "npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", workspace);

  const tarball = readdirSync(workspace).find((name) => name.endsWith(".tgz"));
  if (tarball === undefined) throw new Error("npm pack left no tarball");
  run(workspace, "tar", "-xzf", tarball);
  unpacked = join(workspace, "package");
  packed = run(workspace, "tar", "-tzf", tarball).trim().split("\n").sort();
}, 120_000);

afterAll(() => rmSync(workspace, { recursive: true, force: true }));

describe("the packed tarball", () => {
  test("holds the built files for both module systems, the manifest, the README and the licence only", () => {
    expect(packed).toEqual([
      "package/LICENSE",
      "package/README.md",
      "package/dist/index.cjs",
      "package/dist/index.d.cts",
      "package/dist/index.d.ts",
      "package/dist/index.js",
      "package/package.json",
    ]);
  });

  test("depends on nothing at run time", () => {
    const manifest = JSON.parse(readFileSync(join(unpacked, "package.json"), "utf8")) as Manifest;
    expect(manifest.name).toBe("cachefence");
    expect(manifest.dependencies ?? {}).toEqual({});
    for (const bundle of ["index.js", "index.cjs"]) {
      const code = readFileSync(join(unpacked, "dist", bundle), "utf8");
      const imported = [...code.matchAll(/(?:\bfrom\s*|\bimport\s*|\brequire\(|\bimport\()"([^"]+)"/g)].map(
        (match) => match[1],
      );
      expect(imported.filter((name) => !name?.startsWith("node:"))).toEqual([]);
    }
  });

  test("declares nothing that is marked internal", () => {
    expect(readFileSync(join(unpacked, "dist/index.d.ts"), "utf8")).not.toContain("@internal");
  });
});

describe.each([
  { major: "5", ioredis: "ioredis" },
  { major: "6", ioredis: "ioredis6" },
])("in an application with ioredis $major", ({ major, ioredis }) => {
  let application: string;

  beforeAll(() => {
    application = join(workspace, `application-${major}`);
    install(application, "cachefence", unpacked);
    install(application, "ioredis", join(modules, ioredis));
    install(application, "@types/node", join(modules, "@types/node"));
  });

  test("import and require give the same names", () => {
    const list = "console.log(JSON.stringify(Object.keys(cachefence).sort()))";
    const esm = `import * as cachefence from "cachefence"; ${list}`;
    const cjs = `const cachefence = require("cachefence"); ${list}`;
    const imported = JSON.parse(run(application, process.execPath, "--input-type=module", "--eval", esm)) as string[];
    const required = JSON.parse(run(application, process.execPath, "--input-type=commonjs", "--eval", cjs)) as string[];

    expect(imported).toEqual(required);
    expect(imported).toEqual(
      expect.arrayContaining(["CacheFence", "CacheFenceError", "RecomputeError", "SerializationError"]),
    );
  });

  test("the types fit its clients, as an ES module and as CommonJS", () => {
    const consumer = `
      import { Cluster, Redis } from "ioredis";
      import { CacheFence, CacheFenceError, RecomputeError } from "cachefence";

      export async function main(): Promise<void> {
        const redis = new Redis({ lazyConnect: true });
        const cache = new CacheFence(redis, { namespace: "app:", beta: 1 });
        new CacheFence(new Cluster([{ host: "localhost", port: 6379 }], { lazyConnect: true }));

        const user: { id: number } = await cache.getOrSet("user:1", 60, async () => ({ id: 1 }));
        const name: string = await cache.getOrSet("name:1", 60, () => "Ada", { beta: 0 });
        // @ts-expect-error The value is what the recompute returns.
        const wrong: string = await cache.getOrSet("count", 60, () => 1);
        // @ts-expect-error Not an option.
        new CacheFence(redis, { nameSpace: "app:" });
        await cache.invalidate("user:1", "name:1");

        const error: unknown = undefined;
        if (error instanceof RecomputeError) console.log(error.key, error.cause, error instanceof CacheFenceError);
        console.log(user.id, name, wrong);
      }
    `;
    const options = {
      compilerOptions: {
        module: "nodenext",
        target: "es2022",
        lib: ["es2023"],
        types: ["node"],
        strict: true,
        exactOptionalPropertyTypes: true,
        noEmit: true,
      },
    };
    writeFileSync(join(application, "consumer.mts"), consumer);
    writeFileSync(join(application, "consumer.cts"), consumer);
    writeFileSync(join(application, "tsconfig.json"), JSON.stringify(options));

    expect(run(application, process.execPath, join(modules, "typescript/bin/tsc"))).toBe("");
  }, 60_000);

  test("the types need no newer library than es2021", () => {
    const old = join(application, "es2021");
    mkdirSync(old);
    writeFileSync(
      join(old, "consumer.mts"),
      `import { CacheFenceError } from "cachefence";
       export const causeOf = (error: unknown): unknown => (error instanceof CacheFenceError ? error.cause : undefined);`,
    );
    const compilerOptions = { module: "nodenext", target: "es2021", lib: ["es2021"], types: ["node"], strict: true };
    writeFileSync(
      join(old, "tsconfig.json"),
      JSON.stringify({ compilerOptions: { ...compilerOptions, noEmit: true } }),
    );

    expect(run(old, process.execPath, join(modules, "typescript/bin/tsc"))).toBe("");
  }, 60_000);
});

// What `npm install` would do, without a network: cachefence is the unpacked tarball, the rest is the repository's own.
function install(application: string, name: string, from: string): void {
  const to = join(application, "node_modules", name);
  mkdirSync(dirname(to), { recursive: true });
  if (name === "cachefence") cpSync(from, to, { recursive: true });
  else symlinkSync(from, to, "dir");
}

function run(cwd: string, command: string, ...args: string[]): string {
  try {
    return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${command} ${args.join(" ")} failed:\n${stdout}\n${stderr}`, { cause: error });
  }
}
