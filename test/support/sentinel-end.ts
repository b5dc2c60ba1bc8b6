import { CacheFence } from "../../src/index.js";
import { majors } from "./ioredis.js";
import { scriptless } from "./keeps-its-promises.js";

// A process behind a sentinel that uses its own connections before a failover and, when told, after it; then closes its
// client, and ends: nothing of cachefence's keeps it alive. Without scripting, so that the connection for WATCH is there too.
const [name, sentinelPort, detector, namespace] = process.argv.slice(2);
const { Redis } = majors.find((major) => major.name === name)!;
const redis = new Redis({
  sentinels: [{ host: "127.0.0.1", port: Number(sentinelPort) }],
  name: "primary",
  failoverDetector: detector === "true",
  ...scriptless,
});
redis.on("error", () => undefined);
const cache = new CacheFence(redis, { namespace: namespace! });
console.log(await cache.getOrSet("before", 60, () => "before"));
await new Promise((resolve) => process.stdin.once("data", resolve));
process.stdin.destroy();
// The detector may have ended it, see docs/cluster.md.
if (redis.status === "end") await redis.connect();
console.log(await cache.getOrSet("after", 60, () => "after"));
redis.disconnect();
