import { vi } from "vitest";

/** Resolves once the assertion holds; else rejects with what it last said. */
export function eventually(assertion: () => void): Promise<void> {
  return vi.waitFor(assertion, { timeout: 10_000 });
}
