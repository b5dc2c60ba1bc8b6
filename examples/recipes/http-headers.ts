import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { CachedEntry } from "cachefence";
import { Database } from "./database.js";
import { open } from "./setting.js";

const { redis, cache } = open("http-headers", { staleFor: 300 });
const db = new Database();

const TTL = 60;

/** What a browser, a CDN and a person with a debugger may know of an entry that lives for TTL seconds. */
function cacheHeaders({ remaining, source }: CachedEntry<unknown>): Record<string, string> {
  const left = Math.round(remaining); // negative past the expiry
  const found = { memory: "hit", redis: "hit", stale: "hit", rebuild: "fwd=miss", source: "fwd=miss" }[source];
  return {
    "cache-control": `public, max-age=${TTL}`,
    age: String(TTL - left), // what is left for others is max-age - age
    "cache-status": `cachefence; ${found}; ttl=${left}; detail=${source}`, // RFC 9211
  };
}

const server = createServer((request, response) => {
  void cache
    .getOrSetEntry("page", TTL, () => db.users([1, 2, 3]))
    .then(
      (entry) => response.writeHead(200, cacheHeaders(entry)).end(JSON.stringify(entry.value)),
      () => response.writeHead(503, { "cache-control": "no-store" }).end(),
    );
});

await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
for (let request = 0; request < 2; request++) {
  const { headers } = await fetch(address);
  console.log(headers.get("cache-control"), "|", headers.get("age"), "|", headers.get("cache-status"));
}
server.closeAllConnections();
server.close();
redis.disconnect();
