import type { CacheFence, CacheFenceStats } from "cachefence";
import { Counter, Histogram, Registry } from "prom-client";
import { onCacheEvent } from "./cache-events.js";

type Count = Exclude<keyof CacheFenceStats, "redis">;

const HELP: Record<Count, string> = {
  hits: "Calls served with a valid value",
  memoryHits: "Those of them that were served from memory",
  misses: "Calls that found nothing to serve",
  earlyRefreshes: "Refreshes won by this process on an entry that was still there",
  rebuilds: "Recomputes started by this process",
  waits: "Waits of this process for another one that rebuilds",
  coalesced: "Calls that joined a rebuild or a wait of their own process",
  takeovers: "Rebuilds taken over from a holder that took too long",
  refusedStores: "Recomputed values not stored because something newer had come first",
  staleServes: "Calls served with a value past its expiry",
  redisErrors: "Failures of Redis that reached a call or a rebuild",
  fenceWaits: "Fences that waited for the end of a copy's lease",
};

export interface Metrics {
  readonly registry: Registry;
  close(): void;
}

/** How often comes from `stats()`, read when Prometheus asks; how long comes from the events. */
export function createMetrics(cache: CacheFence): Metrics {
  const registry = new Registry();
  for (const [name, help] of Object.entries(HELP) as [Count, string][]) {
    const snakeCase = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const counter = new Counter({
      name: `cachefence_${snakeCase}_total`,
      help,
      registers: [registry],
      collect: () => {
        counter.reset();
        counter.inc(cache.stats()[name]);
      },
    });
  }

  const buckets = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
  const rebuilds = new Histogram({
    name: "cachefence_rebuild_seconds",
    help: "How long a rebuild took, and what became of it",
    labelNames: ["outcome"],
    buckets,
    registers: [registry],
  });
  const waits = new Histogram({
    name: "cachefence_wait_seconds",
    help: "How long this process waited for another one's rebuild",
    buckets,
    registers: [registry],
  });
  const unsubscribes = [
    onCacheEvent("cachefence:rebuild-end", ({ seconds, stored, error }) => {
      rebuilds.observe({ outcome: error !== undefined ? "failed" : stored ? "stored" : "not stored" }, seconds);
    }),
    onCacheEvent("cachefence:wait", ({ seconds }) => waits.observe(seconds)),
  ];
  return { registry, close: () => unsubscribes.forEach((unsubscribe) => unsubscribe()) };
}
