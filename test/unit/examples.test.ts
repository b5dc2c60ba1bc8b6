import { waitersOf } from "../support/audience.js";
import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { CacheFence } from "cachefence";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startService, type ServiceProcess } from "../../examples/http-service/service-process.js";
import { Cleanup } from "../../examples/support/cleanup.js";
import { describeOwnRedis, describeRedis, removeKeys, uniquePrefix } from "../support/describe-redis.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);
const timeoutMs = 120_000;

function runExample(
  arguments_: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<{ stdout: string; stderr: string }> {
  const env = { ...process.env, NO_COLOR: "1", ...environment };
  return run(process.execPath, ["--import", "tsx", ...arguments_], { cwd: root, env });
}

it("leaves no example out: each is run by a test that names it", async () => {
  const tests = (await readdir(join(root, "test"), { recursive: true })).filter((name) => name.endsWith(".test.ts"));
  const texts = await Promise.all(tests.map((name) => readFile(join(root, "test", name), "utf8")));
  const examples = (await readdir(join(root, "examples"))).filter((name) => name.endsWith(".ts"));
  expect(examples).toContain("shop.ts");
  expect(examples.filter((name) => !texts.some((text) => text.includes(name)))).toEqual([]);
});

describeRedis("examples/serializers.ts", (redisUrl) => {
  it("brings back through each serializer what was stored", async () => {
    const { stdout, stderr } = await runExample(["examples/serializers.ts"], { REDIS_URL: redisUrl });

    expect(stderr).toBe("");
    for (const name of ["msgpackr", "superjson", "node:v8"]) {
      const printed = new RegExp(
        `^${name}: \\d+ bytes; \\{[^}]*born: 1815-12-10T[^}]*Set\\(2\\) \\{ 'maths', 'engines' \\}`,
        "m",
      );
      expect(stdout).toMatch(printed);
    }
    // JSON keeps no sets, and the text repeats itself.
    expect(stdout).toMatch(/^zlib \+ JSON: \d{2} bytes; \{[^}]*tags: \{\}/m);
  });
});

describeOwnRedis("examples/cluster.ts", () => {
  it(
    "rebuilds once per key on three masters, and invalidates across their slots",
    async () => {
      const { stdout, stderr } = await runExample(["examples/cluster.ts"], { REDIS_CLUSTER_NODES: "" });

      expect(stderr).toBe("");
      expect(stdout).toContain("30 keys, each asked for twice at once: 30 recomputes");
      const perMaster = /^keys on each master: (.*)$/m.exec(stdout)?.[1]?.split(", ").map(Number) ?? [];
      expect(perMaster).toHaveLength(3);
      expect(perMaster.reduce((sum, keys) => sum + keys, 0)).toBe(30);
      expect(stdout).toContain('after the invalidation: {"id":"user:1","recompute":31}');
    },
    timeoutMs,
  );
});

describeOwnRedis("examples/python-interop.md", () => {
  let server: RedisServer;
  let redis: Redis;
  let page: string;
  beforeAll(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
    page = await readFile(join(root, "examples/python-interop.md"), "utf8");
  });
  afterAll(async () => {
    redis.disconnect();
    await server.stop();
  });

  /** The Node side of the page, with a query of its own and a call. */
  async function runNodeSide(): Promise<string> {
    const code = /^```ts\n(.*?)^```$/ms.exec(page)?.[1] ?? "";
    const query = "const queryTopProducts = async () => ['from Node'];";
    const script = `${code}\n${query}\nconsole.log(JSON.stringify(await topProducts('de')));\nredis.disconnect();`;
    const arguments_ = ["--input-type=module", "--eval", script];
    return (await runExample(arguments_, { REDIS_URL: server.url })).stdout.trim();
  }

  it("serves what Python has stored under the names on the page", async () => {
    const expiry = Date.now() / 1000 + 60;
    await redis.hset("shop:top-products:de", { v: '["from Python"]', delta: "0.05", expiry: String(expiry) });
    expect(await runNodeSide()).toBe('["from Python"]');
    expect(page).toContain("`shop:top-products:de`");
    await redis.del("shop:top-products:de");
  });

  it("stores what Python reads, and leaves no lock that Python would wait for", async () => {
    expect(await runNodeSide()).toBe('["from Node"]');
    const { v, delta, expiry } = await redis.hgetall("shop:top-products:de");
    expect(v).toBe('["from Node"]');
    expect(Number(delta)).toBeGreaterThanOrEqual(0);
    expect(Number(expiry)).toBeGreaterThan(Date.now() / 1000);
    expect(await redis.pttl("shop:top-products:de")).toBeGreaterThan(0);
    expect(await redis.exists("shop:top-products:de:lock")).toBe(0);
  });

  it("waits for a Python holder of the lock on the page", async () => {
    const cache = new CacheFence(redis, { namespace: "shop:" });
    await redis.set("shop:top-products:fr:lock", "0123456789abcdef0123456789abcdef", "PX", 10_000, "NX");
    let recomputes = 0;
    const read = cache.getOrSet("top-products:fr", 60, () => ["from Node", ++recomputes]);
    await expect.poll(() => waitersOf(redis, "shop:top-products:fr")).toBe(1);
    const expiry = String(Date.now() / 1000 + 60);
    await redis.multi().hset("shop:top-products:fr", { v: '["from Python"]', delta: "0.05", expiry }).exec();
    await redis.del("shop:top-products:fr:lock");

    expect(await read).toEqual(["from Python"]);
    expect(recomputes).toBe(0);
    await cache.close();
  });

  it("tells no lie about Python's invalidation: a rebuild in Node that it overtakes is stored", async () => {
    const cache = new CacheFence(redis, { namespace: "shop:" });
    await cache.getOrSet("top-products:it", 60, async () => {
      await redis.del("shop:top-products:it");
      return "old";
    });
    expect(await redis.hget("shop:top-products:it", "v")).toBe('"old"');
    await cache.close();
  });
});

describeRedis("examples/shop.ts", (redisUrl) => {
  interface Product {
    readonly id: number;
    readonly name: string;
    readonly category: string;
    readonly cents: number;
  }

  const namespace = uniquePrefix();
  const cleanup = new Cleanup();
  let redis: Redis;
  let shop: ServiceProcess;
  beforeAll(async () => {
    redis = new Redis(redisUrl);
    shop = await startService({ REDIS_URL: redisUrl, NAMESPACE: namespace }, cleanup, ["--import", "tsx"], "shop.ts");
  }, timeoutMs);
  afterAll(async () => {
    await cleanup.run();
    await removeKeys(redis, namespace);
    redis.disconnect();
  });

  const ask = (path: string) => fetch(shop.address + path);
  const read = async <T>(path: string) => (await (await ask(path)).json()) as T;
  const queries = () => read<Record<"products" | "productRows" | "pages" | "tokens", number>>("/queries");
  const put = async (path: string, body: object) => {
    const headers = { "content-type": "application/json" };
    expect((await fetch(shop.address + path, { method: "PUT", headers, body: JSON.stringify(body) })).status).toBe(204);
  };
  const list = (first: number, count: number) =>
    read<Product[]>(`/products?ids=${Array.from({ length: count }, (_, index) => first + index).join(",")}`);

  it("has fewer than 200 lines", async () => {
    expect((await readFile(join(root, "examples/shop.ts"), "utf8")).split("\n").length).toBeLessThan(200);
  });

  it("lists fifty products by one query, and asks for nothing of it twice", async () => {
    const lists = await Promise.all(Array.from({ length: 20 }, () => list(1, 50)));
    expect(lists.map(({ length }) => length)).toEqual(Array<number>(20).fill(50));
    expect(lists[19]!.map(({ id }) => id)).toEqual(Array.from({ length: 50 }, (_, index) => index + 1));
    expect(await queries()).toMatchObject({ products: 1, productRows: 50 });

    expect(await list(26, 50)).toHaveLength(50);
    expect(await read("/products/30")).toMatchObject({ id: 30 });
    expect(await queries()).toMatchObject({ products: 2, productRows: 75 });
  });

  it("asks once for an id that nobody knows, and knows it as soon as it is there", async () => {
    const { products } = await queries();
    for (let request = 0; request < 3; request++) expect((await ask("/products/9001")).status).toBe(404);
    expect((await queries()).products).toBe(products + 1);

    await put("/products", { id: 9001, name: "New", category: "office", cents: 5 });
    expect(await read("/products/9001")).toMatchObject({ name: "New" });
  });

  it("drops all pages of a category at once, and no other's", async () => {
    const pages = ["garden/1", "garden/2", "kitchen/1"];
    const cents = async () => {
      const found = await Promise.all(pages.map((page) => read<Product[]>(`/categories/${page}`)));
      return found.map((products) => [...new Set(products.map((product) => product.cents))]);
    };
    const [, , kitchen] = await cents();
    const before = (await queries()).pages;
    await put("/categories/garden/price", { cents: 99 });

    expect(await cents()).toEqual([[99], [99], kitchen]);
    expect((await queries()).pages).toBe(before + 2);
    // The products themselves go by their ids.
    expect((await list(1, 2)).map((product) => product.cents)).toEqual([99, 1_001]);
  });

  it("tells a browser how long, how old and from where", async () => {
    const statuses = async () => (await ask("/categories/office/3")).headers;
    const first = await statuses();
    expect(first.get("cache-control")).toBe("public, max-age=30");
    expect(first.get("age")).toBe("0");
    expect(first.get("cache-status")).toMatch(/^cachefence; fwd=miss; ttl=\d\d; detail=rebuild$/);
    expect((await statuses()).get("cache-status")).toMatch(/^cachefence; hit; ttl=\d\d; detail=redis$/);
    // A page that is read all the time costs Redis nothing; one that was just fenced, not yet.
    await expect
      .poll(async () => (await statuses()).get("cache-status"), { timeout: 20_000 })
      .toMatch(/^cachefence; hit; .*detail=memory$/);
  });

  it("keeps a token no longer than the token lives", async () => {
    const askedWith = await Promise.all(Array.from({ length: 10 }, () => read<{ askedWith: string }>("/delivery")));
    expect(new Set(askedWith.map((answer) => answer.askedWith))).toEqual(new Set(["token-1"]));
    expect((await queries()).tokens).toBe(1);

    const key = `${namespace}delivery:token`;
    const { expiresAtMs } = JSON.parse((await redis.hget(key, "v")) ?? "") as { expiresAtMs: number };
    expect(Date.now() + (await redis.pttl(key))).toBeLessThan(expiresAtMs);
    // Half of its life: from then on it is renewed.
    expect(Number(await redis.hget(key, "expiry")) * 1000).toBeLessThan(expiresAtMs - 25_000);
  });

  it("ends when it is asked to", async () => {
    expect(await read("/health")).toEqual({ redis: "ready" });
    await shop.stop();
    expect(shop.exit()).toEqual({ code: 143, signal: null });
  });
});

describeRedis("examples/http-service.ts", (redisUrl) => {
  const namespace = uniquePrefix();
  const cleanup = new Cleanup();
  let service: ServiceProcess;
  beforeAll(async () => {
    service = await startService({ REDIS_URL: redisUrl, NAMESPACE: namespace }, cleanup, ["--import", "tsx"]);
  }, timeoutMs);
  afterAll(async () => {
    await cleanup.run();
    const redis = new Redis(redisUrl);
    await removeKeys(redis, namespace);
    redis.disconnect();
  });

  const get = (path: string) => fetch(service.address + path);
  const counters = async () => (await (await get("/counters")).json()) as Record<string, number>;

  it("reaches the database once for many requests, and says so on each of its pages", async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, async () => (await get("/top-products/fr")).text()));

    expect(new Set(answers).size).toBe(1);
    expect(JSON.parse(answers[0]!)).toHaveLength(3);
    const { queries, rebuilds, hits, coalesced } = await counters();
    expect({ queries, rebuilds }).toEqual({ queries: 1, rebuilds: 1 });
    expect(hits! + coalesced!).toBe(49);
    const metrics = await (await get("/metrics")).text();
    expect(metrics).toContain("\ncachefence_rebuilds_total 1\n");
    expect(metrics).toContain('\ncachefence_rebuild_seconds_count{outcome="stored"} 1\n');
  });

  it("serves nobody without an order that has been accepted", async () => {
    interface Product {
      readonly name: string;
      readonly cents: number;
    }
    const best = async () => ((await (await get("/top-products/gb")).json()) as Product[])[0]!;
    const before = await best();
    const order = { country: "gb", productId: 7, cents: 1_000_000 };
    const headers = { "content-type": "application/json" };
    const posted = await fetch(`${service.address}/orders`, { method: "POST", headers, body: JSON.stringify(order) });

    expect(posted.status).toBe(201);
    expect(before.name).not.toBe("Product 7");
    expect((await best()).name).toBe("Product 7");
  });

  it("refuses a country that it does not know", async () => {
    expect((await get("/top-products/atlantis")).status).toBe(400);
  });

  it("answers what is open and ends, its database too, when it is asked to stop", async () => {
    const misses = async () =>
      Number(/^cachefence_misses_total (\d+)$/m.exec(await (await get("/metrics")).text())?.[1]);
    const before = await misses();
    const answer = get("/top-products/de");
    // In the service by then, and its query takes many times as long as the next few steps.
    await expect.poll(misses, { interval: 5 }).toBe(before + 1);
    await service.stop();

    expect((await answer).status).toBe(200);
    await expect(get("/")).rejects.toThrow();
    expect(service.exit()).toEqual({ code: 143, signal: null });
  });
});

describeRedis("examples/http-service/load.ts", (redisUrl) => {
  it(
    "reaches the database once per rebuild, and often without the cache",
    async () => {
      const flags = ["--seconds", "1", "--connections", "20"];
      const { stdout, stderr } = await runExample(["examples/http-service/load.ts", ...flags], { REDIS_URL: redisUrl });

      expect(stderr).toBe("");
      const figures = (label: string) =>
        (new RegExp(`^${label} (.*)$`, "m").exec(stdout)?.[1] ?? "")
          .match(/[\d,]+/g)!
          .map((text) => Number(text.replaceAll(",", "")));
      const [queriesOff, requestsOff] = figures("cache off");
      const [queriesOn, requestsOn, , , , , failures] = figures("cache on ");
      const [, rebuilds, queries] = /(\d+) rebuilds, (\d+) queries/.exec(stdout)!.map(Number);
      expect(queriesOff).toBeGreaterThanOrEqual(requestsOff!);
      expect(queriesOn).toBe(queries);
      expect(queries).toBe(rebuilds);
      expect(stdout).toMatch(/ and 0 requests waited for one\.$/m);
      expect(requestsOn).toBeGreaterThan(20 * queriesOn!);
      expect(failures).toBe(0);
    },
    timeoutMs,
  );
});
