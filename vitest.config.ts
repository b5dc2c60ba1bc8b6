import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// `vitest --mode unit` starts no server: what needs one is skipped, and so is what needs a build.
export default defineConfig(({ mode }) => {
  const unitOnly = mode === "unit";
  return {
    resolve: {
      alias: { cachefence: fileURLToPath(new URL("src/index.ts", import.meta.url)) },
    },
    test: {
      include: ["test/**/*.test.ts", "bench/simulate/**/*.test.ts", "examples/recipes/*.test.ts"],
      // One file at a time: what some tests do to processes and connections needs the machine for itself.
      maxWorkers: 1,
      exclude: unitOnly ? ["test/unit/package.test.ts"] : [],
      globalSetup: unitOnly ? [] : ["test/support/global-setup.ts"],
      testTimeout: 30_000,
      hookTimeout: 60_000,
      // A busy machine may be long in coming to it: what is never true is noticed all the same.
      expect: { poll: { timeout: 10_000 } },
      // A rejection that nobody handles fails the run, which is one of the things cachefence promises never to cause.
      dangerouslyIgnoreUnhandledErrors: false,
    },
  };
});
