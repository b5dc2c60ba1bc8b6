import { subscribe } from "node:diagnostics_channel";
import type { CacheFence, CacheFenceEvents } from "cachefence";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { open } from "./setting.js";

const namespace = "recipes:prometheus:";
const { redis, cache } = open("prometheus", { namespace });
const registry = new Registry();

function countCalls(caches: Record<string, CacheFence>): void {
  const calls = new Counter({
    name: "cachefence_events_total",
    help: "What happened to calls and rebuilds, by the counters of stats()",
    labelNames: ["cache", "event"],
    registers: [registry],
    collect() {
      calls.reset();
      for (const [name, cache] of Object.entries(caches)) {
        const { redis: _, ...counts } = cache.stats();
        for (const [event, count] of Object.entries(counts)) calls.inc({ cache: name, event }, count);
      }
    },
  });
  const up = new Gauge({
    name: "cachefence_redis_ready",
    help: "1: Redis answers this cache",
    labelNames: ["cache"],
    registers: [registry],
    collect() {
      for (const [name, cache] of Object.entries(caches)) up.set({ cache: name }, +(cache.stats().redis === "ready"));
    },
  });
}

const rebuilds = new Histogram({
  name: "cachefence_rebuild_seconds",
  help: "How long rebuilds took, and what became of them",
  labelNames: ["namespace", "outcome"],
  registers: [registry],
});
subscribe("cachefence:rebuild-end", (message) => {
  const { namespace, seconds, stored, error } = message as CacheFenceEvents["cachefence:rebuild-end"];
  rebuilds.observe({ namespace, outcome: error !== undefined ? "failed" : stored ? "stored" : "not stored" }, seconds);
});

countCalls({ pages: cache });
await cache.invalidate("answer");
for (let read = 0; read < 3; read++) await cache.getOrSet("answer", 60, () => 42);
await registry.metrics(); // one scrape,
const text = await registry.metrics(); // and the next
console.log(text.split("\n").filter((line) => /event="(hits|rebuilds)"|ready\{|seconds_count/.test(line)));
redis.disconnect();
