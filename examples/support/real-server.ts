import { connect } from "node:net";
import type { Cleanup } from "./cleanup.js";
import { startLocalServer } from "./local-server.js";

export interface RealServer {
  readonly kind: "server";
  readonly url: string;
  readonly description: string;
  /** Somebody else's keys may be there, and it is still there afterwards. */
  readonly isShared: boolean;
}

export const DEFAULT_PORT = 6379;
/** How to get a server, a line for each way. */
export const WAYS_TO_REDIS: readonly string[] = [
  "Docker          docker run --rm -p 6379:6379 redis:7",
  "Debian, Ubuntu  sudo apt-get install redis-server",
  "macOS           brew install redis && brew services start redis",
  "elsewhere       set REDIS_URL=redis://host:6379",
];

const PROBE_TIMEOUT_MS = 500;

/** `REDIS_URL`, else what answers at localhost:6379, else a server from PATH, which the clean-up ends; else undefined. */
export async function findRealServer(cleanup: Cleanup): Promise<RealServer | undefined> {
  const given = process.env.REDIS_URL;
  if (given)
    return { kind: "server", url: given, description: `${withoutCredentials(given)} (REDIS_URL)`, isShared: true };

  if (await answersPing(DEFAULT_PORT)) {
    const url = `redis://127.0.0.1:${DEFAULT_PORT}`;
    return { kind: "server", url, description: `localhost:${DEFAULT_PORT}, which answered`, isShared: true };
  }

  const local = await startLocalServer(cleanup);
  if (local === undefined) return undefined;
  const description = `a ${local.program} of this example's own on port ${local.port}, ended with it`;
  return { kind: "server", url: `redis://127.0.0.1:${local.port}`, description, isShared: false };
}

/** The same, where a server is a must. */
export async function needRealServer(cleanup: Cleanup): Promise<RealServer> {
  const server = await findRealServer(cleanup);
  if (server !== undefined) return server;
  throw new Error(`This example needs a Redis server:\n  ${WAYS_TO_REDIS.join("\n  ")}`);
}

function withoutCredentials(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  return parsed?.host ? `${parsed.protocol}//${parsed.host}` : "the server";
}

function answersPing(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    let reply = "";
    const socket = connect({ host: "127.0.0.1", port });
    const settle = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => settle(false));
    socket.once("error", () => settle(false));
    socket.once("close", () => settle(false));
    socket.once("connect", () => socket.write("PING\r\n"));
    socket.setEncoding("utf8").on("data", (chunk: string) => {
      reply += chunk;
      // A server that wants a password answers, too, but there is none to give.
      if (reply.includes("\r\n")) settle(reply.startsWith("+PONG"));
    });
  });
}
