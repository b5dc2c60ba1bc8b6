import { CacheFence } from "../../src/index.js";
import { majors } from "./ioredis.js";

// Waits for somebody else's rebuild, takes it over, closes its client, and ends: nothing of cachefence's keeps it alive.
const [name, port, namespace] = process.argv.slice(2);
const { Redis } = majors.find((major) => major.name === name)!;
const redis = new Redis(Number(port), "127.0.0.1");
const cache = new CacheFence(redis, { namespace: namespace!, waitForLock: 0.5 });
const value = await cache.getOrSet("key", 60, () => "source");
const subscribers = ((await redis.client("LIST", "TYPE", "PUBSUB")) as string).trim().split("\n").length;
console.log(`${subscribers} subscriber, then the value of ${value}`);
redis.disconnect();
