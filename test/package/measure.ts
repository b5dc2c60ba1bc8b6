import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/**
 * Prints what the built package adds to a service: its size, minified and gzipped, and the time that its first import takes
 * beside that of ioredis, in processes of their own.
 *
 *     npm run check:package
 */
const ROOT = join(import.meta.dirname, "../..");
const STARTS = 7;

const { outputFiles } = await build({
  entryPoints: [join(ROOT, "dist/index.js")],
  bundle: true,
  minify: true,
  write: false,
  format: "esm",
  platform: "node",
  legalComments: "none",
});
const minified = outputFiles[0]!.contents;
const kB = (bytes: number): string => `${(bytes / 1000).toFixed(1)} kB`;
console.log(
  `\nSize: ${kB(gzipSync(minified, { level: 9 }).length)} minified and gzipped, ${kB(minified.length)} minified`,
);

/** The median of some starts. The first one, which reads the files from the disk, does not count. */
function importMs(specifier: string): string {
  const code = `const t = performance.now(); await import(${JSON.stringify(specifier)}); console.log(performance.now() - t)`;
  const start = (): number =>
    Number(execFileSync(process.execPath, ["--input-type=module", "-e", code], { cwd: ROOT, encoding: "utf8" }));
  start();
  const times = Array.from({ length: STARTS }, start).sort((a, b) => a - b);
  return `${times[Math.floor(STARTS / 2)]!.toFixed(0)} ms`;
}
console.log(
  `Start-up: ${importMs("cachefence")} for the import of cachefence, ${importMs("ioredis")} for that of ioredis`,
);
