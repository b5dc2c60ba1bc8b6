import { randomBytes } from "node:crypto";
import { connectCounting } from "./counting-client.js";
import type { RealServer } from "./server-choice.js";

/** The names that the demo uses: nobody else's, thanks to a random prefix, and removed one by one, by name. */
export class OwnKeys {
  readonly #prefix = `cachefence-demo:${randomBytes(8).toString("hex")}:`;
  readonly #names = new Set<string>();

  name(suffix: string): string {
    const key = this.#prefix + suffix;
    this.#names.add(key);
    this.#names.add(`${key}:lock`);
    this.#names.add(`${key}:audience`);
    return key;
  }

  async removeFrom(server: RealServer): Promise<void> {
    if (this.#names.size === 0) return;
    const { redis } = await connectCounting(server);
    try {
      await redis.del(...this.#names);
    } finally {
      redis.disconnect();
    }
  }
}
