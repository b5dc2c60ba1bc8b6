import * as v8 from "node:v8";
import { deflateSync, inflateSync } from "node:zlib";
import { CacheFence, type CacheFenceOptions } from "cachefence";
import { Redis } from "ioredis";
import { Packr } from "msgpackr";
import superjson from "superjson";
import { Cleanup } from "./support/cleanup.js";
import { needRealServer } from "./support/real-server.js";

// `npm run example:serializers`: what JSON cannot carry, or carries at length. Each pair gets a namespace of its own,
// because a value written by one cannot be read by another; one that cannot be read counts as a miss.

type Serializers = Pick<CacheFenceOptions, "serializer" | "deserializer">;

const packr = new Packr({ structuredClone: true });

const serializers: Record<string, Serializers> = {
  // Small and fast; dates, maps, sets, binary data and bigints of up to 64 bits.
  msgpackr: { serializer: (value) => packr.pack(value), deserializer: (stored) => packr.unpack(stored) as unknown },
  // Text that another language can still read, with the types beside it.
  superjson: { serializer: superjson.stringify, deserializer: (stored) => superjson.parse(stored.toString()) },
  // Nothing to install, and whatever structuredClone copies. An older Node may not read what a newer one has written.
  "node:v8": { serializer: v8.serialize, deserializer: v8.deserialize },
  // For large values. It runs on the event loop, on each hit too; below some kilobytes plain JSON is faster.
  "zlib + JSON": {
    serializer: (value) => deflateSync(JSON.stringify(value)),
    deserializer: (stored) => JSON.parse(inflateSync(stored).toString()) as unknown,
  },
};

const value = {
  name: "Ada",
  born: new Date("1815-12-10"),
  tags: new Set(["maths", "engines"]),
  note: "la ".repeat(200),
};

const cleanup = new Cleanup();
try {
  const redis = new Redis((await needRealServer(cleanup)).url);
  cleanup.defer(() => redis.disconnect());
  for (const [name, pair] of Object.entries(serializers)) {
    const cache = new CacheFence(redis, { ...pair, namespace: `serializers:${name}:` });
    await cache.set("ada", 5, value);
    const back = await cache.getOrSet("ada", 5, () => Promise.reject<typeof value>(new Error("not stored")));
    const bytes = await redis.hstrlen(`serializers:${name}:ada`, "v");
    console.log(`${name}: ${bytes} bytes;`, { ...back, note: `${back.note.length} characters` });
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
await cleanup.run();
