import { Redis } from "ioredis";
import { type RedisServer, startRedis } from "./redis-server.js";
import { until } from "./waiting.js";

/** Three masters that share the slots, without replicas. */
export interface RedisCluster {
  readonly masters: readonly RedisServer[];
  /** For `new Cluster(...)`. */
  readonly nodes: { host: string; port: number }[];
  /** The master that owns the slot. */
  masterOf(slot: number): RedisServer;
  stop(): Promise<void>;
}

const slots = 16_384;

export async function startRedisCluster(): Promise<RedisCluster> {
  // Longer than any test stops a master: the others must not call it failed and refuse work themselves.
  const args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "60000"];
  const masters = await Promise.all([0, 1, 2].map(() => startRedis({ args })));
  const stop = async () => {
    await Promise.all(masters.map((master) => master.stop()));
  };
  const firstSlotOf = (number: number) => Math.ceil((number * slots) / masters.length);
  const links = masters.map((master) => new Redis(master.url));
  try {
    for (const [number, link] of links.entries()) {
      // One by one: Redis 6.2 has no ADDSLOTSRANGE.
      const first = firstSlotOf(number);
      const own = Array.from({ length: firstSlotOf(number + 1) - first }, (_, offset) => first + offset);
      await link.cluster("ADDSLOTS", ...own);
      await link.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1);
      await link.call("CLUSTER", "MEET", masters[0]!.host, masters[0]!.port);
    }
    await until("the masters know each other", async () => {
      const states = await Promise.all(links.map((link) => link.cluster("INFO")));
      return states.every((state) => state.includes("cluster_state:ok") && state.includes("cluster_known_nodes:3"));
    });
  } catch (error) {
    await stop();
    throw error;
  } finally {
    for (const link of links) link.disconnect();
  }
  return {
    masters,
    nodes: masters.map(({ host, port }) => ({ host, port })),
    masterOf: (slot) => masters.findLast((_, number) => slot >= firstSlotOf(number))!,
    stop,
  };
}
