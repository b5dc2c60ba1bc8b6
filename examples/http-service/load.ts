import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import autocannon from "autocannon";
import { Cleanup } from "../support/cleanup.js";
import { needRealServer } from "../support/real-server.js";
import { type ServiceProcess, startService } from "./service-process.js";

// `npm run example:load -- --seconds 10 --connections 20`: the same requests to the service, without and with its cache.

const COUNTRIES = ["de", "fr", "gb", "it"];

interface Measured {
  readonly queries: number;
  readonly rebuilds: number;
  /** Requests that found nothing to serve, and so had to wait for a rebuild. */
  readonly misses: number;
  readonly meanRebuildMs: number;
  readonly requests: number;
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly slowestMs: number;
  readonly failures: number;
}

async function measure(service: ServiceProcess, load: { seconds: number; connections: number }): Promise<Measured> {
  const paths = COUNTRIES.map((country) => `/top-products/${country}`);
  // So that a value is at hand from the first counted request on.
  for (const path of paths) await (await fetch(service.address + path)).json();
  const count = async () => (await (await fetch(`${service.address}/counters`)).json()) as Measured;
  const { misses: missesBefore } = await count();

  const { latency, requests, errors, non2xx } = await autocannon({
    url: service.address,
    duration: load.seconds,
    connections: load.connections,
    timeout: 60,
    requests: paths.map((path) => ({ path })),
  });
  const { queries, rebuilds, misses } = await count();
  const metrics = await (await fetch(`${service.address}/metrics`)).text();
  return {
    queries,
    rebuilds,
    misses: misses - missesBefore,
    meanRebuildMs: (1000 * sum(metrics, "cachefence_rebuild_seconds_sum")) / rebuilds,
    requests: requests.total,
    requestsPerSecond: requests.total / load.seconds,
    p50Ms: latency.p50,
    p99Ms: latency.p99,
    slowestMs: latency.max,
    failures: errors + non2xx,
  };
}

/** Over all labels. */
function sum(metrics: string, name: string): number {
  const samples = metrics.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, "gm"));
  return [...samples].reduce((total, [, value]) => total + Number(value), 0);
}

function print(
  label: string,
  { queries, requests, requestsPerSecond, p50Ms, p99Ms, slowestMs, failures }: Measured,
): void {
  const times = [p50Ms, p99Ms, slowestMs].map((ms) => `${ms} ms`.padStart(9));
  const counts = [queries, requests, Math.round(requestsPerSecond)].map((n) => n.toLocaleString("en-US").padStart(9));
  console.log([label.padEnd(9), ...counts, ...times, String(failures).padStart(9)].join(" "));
}

const cleanup = new Cleanup();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void cleanup.run().then(() => process.exit(1)));
}
try {
  const flags = { seconds: { type: "string", default: "10" }, connections: { type: "string", default: "20" } } as const;
  const { values } = parseArgs({ options: flags });
  const load = { seconds: Number(values.seconds), connections: Number(values.connections) };

  const server = await needRealServer(cleanup);
  // A namespace that no other run uses; its entries go by themselves, half a minute after the run.
  const environment = { REDIS_URL: server.url, NAMESPACE: `shop:${randomBytes(8).toString("hex")}:` };
  console.log(`Redis: ${server.description}.`);
  console.log(`${load.connections} connections for ${load.seconds} s, first without the cache, then with it ...`);
  const services = [
    startService({ ...environment, CACHE: "off" }, cleanup),
    startService(environment, cleanup),
  ] as const;
  const [withoutCache, withCache] = await Promise.all(services);
  const off = await measure(withoutCache, load);
  await withoutCache.stop();
  const on = await measure(withCache, load);

  const headings = ["queries", "requests", "per s", "p50", "p99", "slowest", "failures"];
  console.log(["".padEnd(9), ...headings.map((heading) => heading.padStart(9))].join(" "));
  print("cache off", off);
  print("cache on", on);
  console.log(
    `Queries are as PostgreSQL counted them. With the cache: ${on.rebuilds} rebuilds, ${on.queries} queries, ` +
      `${Math.round(on.meanRebuildMs)} ms per rebuild, ` +
      `and ${on.misses} requests waited for one.`,
  );
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
await cleanup.run();
