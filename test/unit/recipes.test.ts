import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { describeOwnRedis } from "../support/describe-redis.js";
import { root } from "../support/documents.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";

/** What each recipe of docs/recipes.md prints: one line for each call of console.log. */
const printed: Record<string, unknown[][]> = {
  "unknown-ids": [[null, null, { id: 1, name: "User 1" }], [expect.stringMatching(/^2 queries, kept for [2-5] s$/)]],
  token: [["secret 1", "secret 1"], [expect.stringMatching(/^of 600 s: fresh for (47\d|480) s$/)]],
  lists: [
    [
      new Map([
        [1, { id: 1, name: "User 1" }],
        [404, undefined],
        [2, { id: 2, name: "User 2" }],
      ]),
    ],
    [[3, 2, 1], "2 queries"],
  ],
  groups: [[["Product 1 and Product 2", "", "Product 3"]], [["Product 1 and Anvil", "", "Product 3"], "5 queries"]],
  definitions: [
    [
      new Map([
        [1, { id: 1, name: "Product 1", brand: "acme" }],
        [2, { id: 2, name: "Product 2", brand: "acme" }],
        [404, undefined],
      ]),
    ],
    [{ id: 1, name: "Product 1", brand: "acme" }],
    ["Anvil", "2 queries"],
    [2, "3 queries"],
  ],
  "http-headers": [
    [
      "public, max-age=60",
      "|",
      expect.stringMatching(/^[01]$/),
      "|",
      expect.stringMatching(/^cachefence; fwd=miss; ttl=(59|60); detail=rebuild$/),
    ],
    [
      "public, max-age=60",
      "|",
      expect.stringMatching(/^[01]$/),
      "|",
      expect.stringMatching(/^cachefence; hit; ttl=(59|60); detail=redis$/),
    ],
  ],
  "invalidate-surely": [
    ["User 1"],
    ["during the outage: User 1, 1 to be fenced"],
    ["after it: Ada, 0 to be fenced"],
    [expect.stringMatching(/^after [1-5] failure: Grace$/)],
  ],
  shutdown: [["made"]],
  health: [[{ httpStatus: 200, cache: "ready" }], [{ httpStatus: 200, cache: "lost" }, 42]],
  "metrics-prometheus": [
    [
      [
        'cachefence_rebuild_seconds_count{namespace="recipes:prometheus:",outcome="stored"} 1',
        'cachefence_events_total{cache="pages",event="hits"} 2',
        'cachefence_events_total{cache="pages",event="rebuilds"} 1',
        'cachefence_redis_ready{cache="pages"} 1',
      ],
    ],
  ],
  "metrics-opentelemetry": [
    ["cachefence.rebuild.duration", { namespace: "recipes:opentelemetry:", outcome: "stored" }, 1],
    ["cachefence.events", { cache: "pages", event: "hits" }, 2],
  ],
  nest: [["served"], ["ended"]],
  compression: [
    [1, new Date(0), new Set(["a"]), "as it is"],
    [1_000, new Date(0), new Set(["a"]), "under half"],
  ],
  "per-user": [[["open:late order of ada"], ["late order of ada:open"]], ["3 queries"]],
};

describeOwnRedis("The recipes", () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
    vi.stubEnv("REDIS_URL", server.url);
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    await server.stop();
  });

  it.each(Object.entries(printed))("%s prints what it is to print", async (name, lines) => {
    const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
    try {
      await import(join(root, `examples/recipes/${name}.ts`));
      expect(log.mock.calls).toEqual(lines);
    } finally {
      log.mockRestore();
    }
  });

  it("are all run", () => {
    const files = readdirSync(join(root, "examples/recipes")).filter((name) => !name.endsWith(".test.ts"));
    const recipes = files.map((name) => name.replace(/\.ts$/, "")).filter((name) => !/^(database|setting)$/.test(name));
    expect(recipes.sort()).toEqual(Object.keys(printed).sort());
  });
});
