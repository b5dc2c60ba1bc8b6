import type { GuardedOutcome, GuardedWrite } from "./guarded-write.js";
import { keysOf, script, scriptArguments } from "./guarded-write.js";
import type { RedisClient } from "../link/redis-client.js";
import type { Runtime } from "../runtime.js";
import { WatchConnection } from "./watch-connection.js";

// Renamed away: "ERR unknown command 'evalsha'"; denied by ACL: "NOPERM ... 'evalsha' command".
const SCRIPTING_DENIED = /^(?:ERR unknown command|NOPERM).*\beval(?:sha)?\b/i;

/** Runs guarded writes: by script, or by WATCH/MULTI while the server denies scripting. */
export class GuardedWriter {
  readonly #watching: WatchConnection;
  // EVAL carries the text and EVALSHA needs it loaded: the first write of a process sends the text, the next rely on it.
  #isLoaded = false;
  // Set while the server denies scripting: the connection that was told so, where the client shows it. A new one asks again,
  // and so does the end of the fallback's own connection.
  #denial: { readonly stream: unknown } | undefined;

  constructor(client: RedisClient, timeoutMs: number, runtime: Runtime) {
    this.#watching = new WatchConnection(client, timeoutMs, runtime);
    this.#watching.onEnd = () => {
      this.#denial = undefined;
    };
  }

  close(): void {
    this.#watching.close();
  }

  /** Rejects with the reply's own error; deadlines and outages are the link's business. */
  async run(client: RedisClient, write: GuardedWrite): Promise<GuardedOutcome> {
    if (this.#denial !== undefined && this.#denial.stream === client.stream) return this.#watching.run(write);
    this.#denial = undefined;
    try {
      return await this.#runScript(client, write);
    } catch (error) {
      if (!(error instanceof Error && SCRIPTING_DENIED.test(error.message))) throw error;
      this.#denial = { stream: client.stream };
      return this.#watching.run(write);
    }
  }

  async #runScript(client: RedisClient, write: GuardedWrite): Promise<GuardedOutcome> {
    const keys = keysOf(write);
    const args = [...keys, ...scriptArguments(write, client.isCluster !== true)];
    if (this.#isLoaded) {
      try {
        return outcomeOf(await client.evalsha(script.sha1, keys.length, ...args));
      } catch (error) {
        if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
      }
    }
    const reply = await client.eval(script.text, keys.length, ...args);
    this.#isLoaded = true;
    return outcomeOf(reply);
  }
}

function outcomeOf(reply: unknown): GuardedOutcome {
  if (reply === "done" || reply === "refused" || reply === "foreign") return reply;
  // The error of a write inside the script, as text.
  throw new Error(String(reply));
}
