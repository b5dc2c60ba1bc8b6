import { subscribe } from "node:diagnostics_channel";
import { metrics } from "@opentelemetry/api";
import { AggregationTemporality, InMemoryMetricExporter, MeterProvider } from "@opentelemetry/sdk-metrics";
import { PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import type { CacheFence, CacheFenceEvents } from "cachefence";
import { open } from "./setting.js";

// As the SDK of a service does at its start.
const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
const reader = new PeriodicExportingMetricReader({ exporter });
metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }));

const { redis, cache } = open("opentelemetry", { namespace: "recipes:opentelemetry:" });

const meter = metrics.getMeter("cachefence");

function countCalls(caches: Record<string, CacheFence>): void {
  const events = meter.createObservableCounter("cachefence.events");
  events.addCallback((result) => {
    for (const [name, cache] of Object.entries(caches)) {
      const { redis: _, ...counts } = cache.stats();
      for (const [event, count] of Object.entries(counts)) result.observe(count, { cache: name, event });
    }
  });
}

const rebuilds = meter.createHistogram("cachefence.rebuild.duration", { unit: "s" });
subscribe("cachefence:rebuild-end", (message) => {
  const { namespace, seconds, stored, error } = message as CacheFenceEvents["cachefence:rebuild-end"];
  rebuilds.record(seconds, { namespace, outcome: error !== undefined ? "failed" : stored ? "stored" : "not stored" });
});

countCalls({ pages: cache });
await cache.invalidate("answer");
for (let read = 0; read < 3; read++) await cache.getOrSet("answer", 60, () => 42);
await reader.forceFlush();
const measured = exporter.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics));
for (const { descriptor, dataPoints } of measured) {
  for (const { attributes, value } of dataPoints) {
    if (attributes.event === "hits" || attributes.outcome === "stored") {
      console.log(descriptor.name, attributes, typeof value === "number" ? value : value.count);
    }
  }
}
await reader.shutdown();
redis.disconnect();
