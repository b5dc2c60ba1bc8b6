import { randomBytes } from "node:crypto";
import { CacheFence } from "cachefence";
import { Cluster } from "ioredis";
import { Cleanup } from "./support/cleanup.js";
import { givenNodes, startLocalCluster } from "./support/local-cluster.js";

// `npm run example:cluster`: the same calls on a Redis Cluster. REDIS_CLUSTER_NODES=host:port,host:port names one to use.

const cleanup = new Cleanup();
try {
  const cluster = new Cluster(givenNodes() ?? (await startLocalCluster(cleanup)));
  cleanup.defer(() => cluster.disconnect());

  // A key without a hash tag has its lock at `{<entry key>}:lock`, in the same slot: one script may touch both. Waiters
  // poll here. `scaleReads` must stay "master": a replica may still hold what an invalidate has removed.
  const namespace = `cluster-example:${randomBytes(4).toString("hex")}:`;
  const cache = new CacheFence(cluster, { namespace });
  cleanup.defer(() => cache.close());

  let recomputes = 0;
  const ids = Array.from({ length: 30 }, (_, id) => `user:${id}`);
  const load = (id: string) => cache.getOrSet(id, 5, async () => ({ id, recompute: ++recomputes }));
  await Promise.all([...ids, ...ids].map(load));
  console.log(`${ids.length} keys, each asked for twice at once: ${recomputes} recomputes`);

  const perMaster = await Promise.all(cluster.nodes("master").map((node) => node.keys(`*${namespace}*`)));
  console.log(`keys on each master: ${perMaster.map((keys) => keys.length).join(", ")}`);

  await cache.invalidate(...ids); // Whatever slots they are in.
  console.log(`after the invalidation: ${JSON.stringify(await load("user:1"))}`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
await cleanup.run();
