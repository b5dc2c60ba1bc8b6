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
  /** Moves the slot to the next master, key by key, as `redis-cli --cluster reshard` does. */
  moveSlot(slot: number): Promise<void>;
  stop(): Promise<void>;
}

const slots = 16_384;
const MEETING_MS = 5_000;

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
    }
    // A handshake that gets lost is not taken up again before the node timeout.
    let meetsAtMs = 0;
    const meet = async () => {
      meetsAtMs = performance.now() + MEETING_MS;
      const pairs = links.flatMap((link) => masters.map(({ host, port }) => ({ link, host, port })));
      await Promise.all(pairs.map(({ link, host, port }) => link.call("CLUSTER", "MEET", host, port)));
    };
    const knowEachOther = async () => {
      if (performance.now() >= meetsAtMs) await meet();
      const states = await Promise.all(links.map((link) => link.cluster("INFO")));
      return states.every((state) => state.includes("cluster_state:ok") && state.includes("cluster_known_nodes:3"));
    };
    await until("the masters know each other", knowEachOther, 4 * MEETING_MS);
  } catch (error) {
    await stop();
    throw error;
  } finally {
    for (const link of links) link.disconnect();
  }
  // Slots that no longer are where they were at the start.
  const moved = new Map<number, RedisServer>();
  const masterOf = (slot: number) => moved.get(slot) ?? masters.findLast((_, number) => slot >= firstSlotOf(number))!;
  const moveSlot = async (slot: number) => {
    const from = masterOf(slot);
    const to = masters[(masters.indexOf(from) + 1) % masters.length]!;
    const admins = new Map(masters.map((master) => [master, new Redis(master.url)]));
    const [source, target] = [admins.get(from)!, admins.get(to)!];
    try {
      const [sourceId, targetId] = await Promise.all([source.cluster("MYID"), target.cluster("MYID")]);
      await target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", sourceId);
      await source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", targetId);
      for (;;) {
        // One at a time: between two, some of what belongs to one key is here and some is there.
        const [key] = (await source.call("CLUSTER", "GETKEYSINSLOT", slot, 1)) as string[];
        if (key === undefined) break;
        await source.call("MIGRATE", to.host, to.port, key, 0, 5_000);
      }
      for (const admin of [target, source, ...admins.values()]) {
        await admin.call("CLUSTER", "SETSLOT", slot, "NODE", targetId);
      }
      moved.set(slot, to);
      // Who moves another slot before all know of the new epoch may get an old one for it. Then what is still on its way from
      // its last owner takes it back, and what is stored in it is lost.
      await until("the masters agree", async () => {
        const views = await Promise.all([...admins.values()].map((admin) => admin.cluster("NODES") as Promise<string>));
        return new Set(views.map(ownersIn)).size === 1;
      });
    } finally {
      for (const admin of admins.values()) admin.disconnect();
    }
  };
  return {
    masters,
    nodes: masters.map(({ host, port }) => ({ host, port })),
    masterOf,
    moveSlot,
    stop,
  };
}

/** Of what CLUSTER NODES says: each master, its epoch, and its slots. */
function ownersIn(view: string): string {
  const lines = view.trim().split("\n");
  return lines
    .map((line) => {
      const [id, , , , , , epoch, , ...ranges] = line.split(" ");
      return [id, epoch, ...ranges].join(" ");
    })
    .sort()
    .join("\n");
}
