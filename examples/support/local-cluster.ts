import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import type { Cleanup } from "./cleanup.js";
import { startLocalServer } from "./local-server.js";

export interface ClusterNode {
  readonly host: string;
  readonly port: number;
}

const SLOTS = 16_384;
const MASTERS = 3;
const START_TIMEOUT_MS = 20_000;

/** The nodes that `REDIS_CLUSTER_NODES` names. */
export function givenNodes(): ClusterNode[] | undefined {
  const given = process.env.REDIS_CLUSTER_NODES;
  if (!given) return undefined;
  return given.split(",").map((node) => {
    const { hostname, port } = new URL(`redis://${node}`);
    return { host: hostname, port: Number(port || 6379) };
  });
}

/** Three masters without replicas, on the loopback interface; the clean-up ends them. */
export async function startLocalCluster(cleanup: Cleanup): Promise<ClusterNode[]> {
  const start = () => startLocalServer(cleanup, ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"]);
  const servers = await Promise.all(Array.from({ length: MASTERS }, start));
  const nodes = servers.map((server) => {
    if (server !== undefined) return { host: "127.0.0.1", port: server.port };
    throw new Error("No Redis: set REDIS_CLUSTER_NODES, or put redis-server or valkey-server on PATH");
  });
  const clients = nodes.map((node) => new Redis(node));
  try {
    await Promise.all(
      clients.map(async (client, index) => {
        await client.cluster("ADDSLOTS", ...slotsOf(index));
        if (index > 0) await clients[0]!.cluster("MEET", nodes[index]!.host, nodes[index]!.port);
      }),
    );
    await Promise.all(clients.map(becomeReady));
  } finally {
    for (const client of clients) client.disconnect();
  }
  return nodes;
}

function slotsOf(master: number): number[] {
  const first = Math.ceil((master * SLOTS) / MASTERS);
  const end = Math.ceil(((master + 1) * SLOTS) / MASTERS);
  return Array.from({ length: end - first }, (_, offset) => first + offset);
}

async function becomeReady(client: Redis): Promise<void> {
  const deadlineMs = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    // A node says "ok" when all slots are served by nodes that it knows.
    const info = await client.cluster("INFO");
    if (info.includes("cluster_state:ok") && info.includes(`cluster_known_nodes:${MASTERS}`)) return;
    if (Date.now() > deadlineMs) throw new Error(`The cluster did not become ready: ${info}`);
    await sleep(50);
  }
}
