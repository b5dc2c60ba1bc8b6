import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeOwnRedis } from "../support/describe-redis.js";
import { blocks, documents, root, textOf } from "../support/documents.js";
import { type RedisServer, startRedis } from "../support/redis-server.js";

const run = promisify(execFile);
const readme = textOf("README.md");

/** The anchors that GitHub gives to the headings of a document. */
function anchors(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, "")
      .replaceAll(" ", "-"),
  );
}

describe("README.md", () => {
  it("is short enough to be read", () => {
    expect(readme.split(/\s+/).length).toBeLessThanOrEqual(1_500);
  });

  it("names two commands to set up with, each complete by itself", () => {
    expect(blocks("README.md", "sh").filter((code) => code.includes("npm ci"))).toEqual([
      "npm ci && npm run demo",
      "npm ci && npm test",
    ]);
  });

  it("shows twenty lines of usage before anything else, after the installation", () => {
    const [usage] = blocks("README.md", "ts");
    expect(usage!.split("\n").filter((line) => line.trim() !== "").length).toBeLessThanOrEqual(20);
    expect(readme.indexOf("npm install cachefence")).toBeLessThan(readme.indexOf("```ts"));
    expect(readme.indexOf("```ts")).toBeLessThan(readme.indexOf("\n## "));
  });

  it.each(documents)("has no broken link: %s", (name) => {
    const text = textOf(name);
    const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);
    for (const link of links.filter((target) => !/^https?:/.test(target))) {
      const [path = "", anchor] = link.split("#");
      const target = path === "" ? join(root, name) : join(root, name, "..", path);
      expect(existsSync(target), link).toBe(true);
      if (anchor !== undefined) expect(anchors(readFileSync(target, "utf8"))).toContain(anchor);
    }
  });
});

describe("docs/guarantees.md", () => {
  const text = textOf("docs/guarantees.md").replaceAll(/\s+/g, " ");
  const paragraphs = [...text.matchAll(/## \d+\. .*?\*\*Tests\.\*\* (.*?)(?= #+ )/g)].map(
    ([, paragraph]) => paragraph!,
  );

  it("has a test for each of the ten guarantees", () => {
    expect(paragraphs).toHaveLength(10);
  });

  // A file, then the sentences in it, each perhaps cut short by "...".
  const sentences = paragraphs.flatMap((paragraph) => {
    let file = "";
    return [...paragraph.matchAll(/`(test\/[\w/-]+\.test\.ts)`|"([^"]+)"/g)].map(([, name, sentence]) => {
      file = name ?? file;
      return [file, (sentence ?? "").replace(/[ ,]*\.\.\.$/, "")];
    });
  });
  it.each(sentences)("names a test that is there: %s %s", (file, sentence) => {
    expect(readFileSync(join(root, file), "utf8")).toContain(sentence);
  });
});

describeOwnRedis("the examples of README.md", () => {
  let server: RedisServer;
  let redis: Redis;
  beforeAll(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
  });
  afterAll(async () => {
    redis.disconnect();
    await server.stop();
  });

  async function output(name: string): Promise<string> {
    const { stdout, stderr } = await run(process.execPath, ["--import", "tsx", `examples/${name}`], {
      cwd: root,
      env: { ...process.env, REDIS_URL: server.url },
    });
    expect(stderr).toBe("");
    return stdout;
  }

  it("usage.ts: 500 callers, one query, and a new value after an invalidate; the same when it is run again", async () => {
    const printed = "500 callers, 1 query\n{ id: 1, name: 'Ada', query: 2 } after invalidate: 2 queries\n";
    expect(await output("usage.ts")).toBe(printed);
    expect(await output("usage.ts")).toBe(printed);
    expect(await redis.keys("*:lock")).toEqual([]);
  });

  it("per-call.ts: every option of one call", async () => {
    expect(await output("per-call.ts")).toBe("{ price: 12.5 } undefined\n");
  });

  it("memory.ts: hits without Redis", async () => {
    expect(await output("memory.ts")).toBe("hits from memory\n");
  });

  it("events.ts: a rebuild seen, and the counters", async () => {
    const seen = await output("events.ts");
    expect(seen).toMatch(/^answer: rebuilt in \d+\.\d{3} s, stored$/m);
    expect(seen).toMatch(/hits: 1,\s+memoryHits: 0,\s+misses: 1,/);
  });
});
