import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { findFreePort, findServerBinary, type RedisServer, startRedis } from "./redis-server.js";
import { until } from "./waiting.js";

/** One sentinel, and the servers that it watches. It calls a server dead after half a second. */
export interface RedisSentinel {
  readonly port: number;
  /** For `new Redis(...)`. */
  readonly connection: { readonly sentinels: { host: string; port: number }[]; readonly name: string };
  /** The first is the primary at the start. */
  readonly servers: readonly RedisServer[];
  /** The server that the sentinel takes for the primary now. */
  primary(): Promise<RedisServer>;
  /** A planned failover: resolves when the sentinel has begun it. */
  failover(): Promise<void>;
  stop(): Promise<void>;
}

const host = "127.0.0.1";
const name = "primary";

export async function startRedisSentinel({ replicas }: { replicas: number }): Promise<RedisSentinel> {
  const first = await startRedis({ args: ["--repl-diskless-sync-delay", "0"] });
  const servers = [first];
  for (let count = 0; count < replicas; count++) {
    const args = ["--repl-diskless-sync-delay", "0", "--replicaof", first.host, String(first.port)];
    servers.push(await startRedis({ args }));
  }
  // The sentinel asks the primary for its replicas when it starts, and then not for ten seconds.
  for (const replica of servers.slice(1)) {
    const link = new Redis(replica.url);
    await until("the replica follows", async () => (await link.info("replication")).includes("master_link_status:up"));
    link.disconnect();
  }
  const port = await findFreePort();
  const directory = mkdtempSync(join(tmpdir(), "cachefence-sentinel-"));
  const config = join(directory, "sentinel.conf");
  const lines = [
    `port ${port}`,
    `bind ${host}`,
    `sentinel monitor ${name} ${host} ${first.port} 1`,
    `sentinel down-after-milliseconds ${name} 1000`,
    `sentinel failover-timeout ${name} 5000`,
  ];
  writeFileSync(config, `${lines.join("\n")}\n`);
  const process = spawn(findServerBinary()!, [config, "--sentinel"], { cwd: directory, stdio: "ignore" });
  const link = new Redis(port, host);
  link.on("error", () => undefined);
  const stop = async () => {
    link.disconnect();
    process.kill("SIGKILL");
    await Promise.all(servers.map((server) => server.stop()));
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await until("the sentinel knows the replicas", async () => {
      const known = (await link.call("SENTINEL", "REPLICAS", name)) as string[][];
      // One that it has not yet asked cannot be promoted.
      const isUsable = (fields: string[]) => fields[fields.indexOf("master-link-status") + 1] === "ok";
      return known.filter(isUsable).length === replicas;
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    port,
    connection: { sentinels: [{ host, port }], name },
    servers,
    primary: async () => {
      const [, primaryPort] = (await link.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)) as [string, string];
      return servers.find((server) => server.port === Number(primaryPort))!;
    },
    failover: async () => {
      await link.call("SENTINEL", "FAILOVER", name);
    },
    stop,
  };
}
