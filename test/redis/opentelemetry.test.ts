import { createRequire } from "node:module";
import { IORedisInstrumentation } from "@opentelemetry/instrumentation-ioredis";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { CacheFence } from "cachefence";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { describeOwnRedis, uniquePrefix } from "../support/describe-redis.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";
import { until } from "../support/waiting.js";

// It knows a module by the name of its folder: the other major is in one of another name here.
describeOwnRedis("OpenTelemetry's instrumentation of ioredis", () => {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  const instrumentation = new IORedisInstrumentation({ requireParentSpan: false });
  let server: RedisServer;
  let client: Redis;
  let cache: CacheFence;
  let monitor: Redis;
  let sent: string[];

  beforeAll(async () => {
    instrumentation.setTracerProvider(provider);
    server = await startRedis();
  });
  afterAll(async () => {
    instrumentation.disable();
    await provider.shutdown();
    await server.stop();
  });
  beforeEach(async () => {
    // It patches what is required while it is enabled, and no import.
    const { Redis: Traced } = createRequire(import.meta.url)("ioredis") as { Redis: typeof Redis };
    client = new Traced(server.url);
    cache = new CacheFence(client, { namespace: uniquePrefix(), beta: 0 });
    // What comes once in the life of a process: the clock, the mailbox, the text of each script.
    await cache.getOrSet("warm", 60, () => "value");
    await cache.invalidate("warm");
    const own = `127.0.0.1:${(client as unknown as { stream: { localPort: number } }).stream.localPort}`;
    sent = [];
    // It is traced as well: what it asks for itself when it connects may be answered late.
    monitor = await client.duplicate({ enableReadyCheck: false, disableClientInfo: true }).monitor();
    monitor.on("monitor", (_time: string, [name]: string[], source: string) => {
      if (source === own) sent.push(name!.toLowerCase());
    });
    exporter.reset();
  });
  afterEach(() => {
    instrumentation.setConfig({ requireParentSpan: false });
    monitor.disconnect();
    client.disconnect();
  });

  const statements = () => exporter.getFinishedSpans().map((span) => String(span.attributes["db.query.text"]));

  it("sees each command once: those of a rebuild, a hit, a list and a fence", async () => {
    expect(await cache.getOrSet("key", 60, () => "value")).toBe("value");
    expect(await cache.getOrSet("key", 60, () => "other")).toBe("value");
    await cache.getOrSetMany(["key", "another"], String, 60, (keys) => keys);
    await cache.invalidate("key");
    // TIME is asked for once more where a busy machine was long in answering it.
    const isOurs = (name: string) => name !== "time";
    const names = exporter.getFinishedSpans().map(({ name }) => name);
    const rebuild = ["hmget", "evalsha", "evalsha"];
    expect(names.filter(isOurs)).toEqual([...rebuild, "hmget", "hmget", ...rebuild, "evalsha"]);
    await client.echo("end");
    await until("the monitor has seen them all", () => sent.at(-1) === "echo");
    expect(sent).toEqual([...names, "echo"]);
  });

  it("writes stored values into its spans, and with `(command) => command` as serializer none", async () => {
    await cache.getOrSet("before", 60, () => "a secret");
    expect(statements().filter((statement) => statement.includes("a secret")).length).toBe(1);
    exporter.reset();
    instrumentation.setConfig({ requireParentSpan: false, dbStatementSerializer: (command) => command });
    await cache.getOrSet("after", 60, () => "a secret");
    await cache.set("after", 60, "another secret");
    const commands = statements().filter((statement) => statement !== "time");
    expect(commands).toEqual(["hmget", "evalsha", "evalsha", "evalsha"]);
    expect(JSON.stringify(exporter.getFinishedSpans().map(({ attributes }) => attributes))).not.toContain("secret");
  });
});
