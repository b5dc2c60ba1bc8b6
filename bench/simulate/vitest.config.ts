import { defineConfig } from "vitest/config";

// The simulation needs neither Redis nor the library, so its tests do not load the library's global setup.
export default defineConfig({
  test: { root: import.meta.dirname, include: ["**/*.test.ts"] },
});
