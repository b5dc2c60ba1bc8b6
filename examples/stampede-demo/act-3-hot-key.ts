import { performance } from "node:perf_hooks";
import { connectCounting } from "./counting-client.js";
import { FakeDatabase } from "./fake-database.js";
import { percentile } from "../support/percentile.js";
import { formatCount, formatMs } from "./output.js";
import type { Stage } from "./stage.js";
import { type LoadResult, runSteadyLoad } from "./steady-load.js";
import { cacheAside, fenced, type Source, type Strategy } from "./strategies.js";

const EXPIRIES = 3;
// In the few query times before an expiry, so many readers draw lots for the early refresh that one of them wins.
const REQUESTS_PER_QUERY_TIME = 30;
const MIN_REQUESTS_PER_SECOND = 200;
const MAX_REQUESTS_PER_SECOND = 1_000;
const PROGRESS_MS = 500;

interface Contender {
  readonly label: string;
  readonly id: string;
  readonly create: (source: Source) => Strategy;
}

const contenders: readonly Contender[] = [
  { label: "naive cache-aside", id: "naive", create: cacheAside },
  { label: "lock only (beta: 0)", id: "lock-only", create: (source) => fenced(source, { beta: 0 }) },
  { label: "cachefence", id: "inline", create: fenced },
  {
    label: 'cachefence, earlyRefresh: "background"',
    id: "background",
    create: (source) => fenced(source, { earlyRefresh: "background" }),
  },
];

interface HotKeyRow extends LoadResult {
  readonly label: string;
  readonly queries: number;
}

export async function actThree(stage: Stage): Promise<void> {
  const { options, output } = stage;
  const { latencyMs, ttlSeconds } = options;
  const requestsPerSecond = Math.round(
    Math.min(MAX_REQUESTS_PER_SECOND, Math.max(MIN_REQUESTS_PER_SECOND, (REQUESTS_PER_QUERY_TIME * 1000) / latencyMs)),
  );
  // Every contender sees its value expire, and be replaced, so many times: the slowest replaces it two query times after.
  const durationMs = EXPIRIES * (ttlSeconds * 1000 + 2 * latencyMs);

  output.line("Act 3: a hot key");
  output.paragraph(
    `A value that lives ${ttlSeconds} s is read ${formatCount(requestsPerSecond)} times a second while it runs out ` +
      `${EXPIRIES} times; each way of caching gets that load on a key of its own, all at the same time.`,
  );

  output.progress(`${Math.ceil(durationMs / 1000)} s of steady load`);
  const beganMs = performance.now();
  const ticker = setInterval(() => {
    const seconds = (performance.now() - beganMs) / 1000;
    output.tick(`steady load: ${seconds.toFixed(1)} of ${(durationMs / 1000).toFixed(1)} s`);
  }, PROGRESS_MS);
  try {
    const load = { requestsPerSecond, durationMs };
    const rows = await Promise.all(contenders.map((contender) => underLoad(contender, stage, load)));
    output.line();
    output.table(["", "requests", "DB\nqueries", "waited for\na query", "p99\nlatency"], rows.map(hotKeyCells));
  } finally {
    clearInterval(ticker);
  }

  output.line();
  output.paragraph(
    "Early refresh (XFetch): shortly before the value runs out, one reader, drawn by lot, renews it while all others " +
      'still read the old one. By default that reader waits for its own query; with "background" it does not either.',
  );
}

async function underLoad(
  { label, id, create }: Contender,
  { server, options, keys, cleanup }: Stage,
  load: { readonly requestsPerSecond: number; readonly durationMs: number },
): Promise<HotKeyRow> {
  const { redis } = await connectCounting(server);
  cleanup.defer(() => redis.disconnect());
  const database = new FakeDatabase(options.latencyMs);
  const strategy = create({ redis, query: database.query, ttlSeconds: options.ttlSeconds });
  const key = keys.name(`act-3:${id}`);
  // The first value of all is nobody's expiry: it is there before anything is counted.
  await strategy.read(key);
  database.queries = 0;

  const result = await runSteadyLoad(strategy, key, load);
  const { queries } = database;
  await strategy.close();
  redis.disconnect();
  return { label, queries, ...result };
}

function hotKeyCells(row: HotKeyRow): string[] {
  return [
    row.label,
    formatCount(row.requests),
    formatCount(row.queries),
    formatCount(row.waited),
    formatMs(percentile(row.latenciesMs, 0.99)),
  ];
}
