import type { Cleanup } from "../support/cleanup.js";
import { DEFAULT_PORT, findRealServer, type RealServer } from "../support/real-server.js";

export type { RealServer };

export interface MemoryServer {
  readonly kind: "memory";
  readonly description: string;
}

export type DemoServer = RealServer | MemoryServer;

export async function chooseServer(cleanup: Cleanup): Promise<DemoServer> {
  const server = await findRealServer(cleanup);
  return (
    server ?? {
      kind: "memory",
      description:
        `in memory (ioredis-mock), inside this process: nothing answers at localhost:${DEFAULT_PORT}, ` +
        "and neither redis-server nor valkey-server starts from PATH",
    }
  );
}
