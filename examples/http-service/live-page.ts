import { readFile } from "node:fs/promises";
import type { FastifyInstance } from "fastify";

/** `/` shows the counters; it asks `/counters` for them twice a second. */
export async function serveLivePage(app: FastifyInstance, count: () => Promise<unknown>): Promise<void> {
  const page = await readFile(new URL("page.html", import.meta.url), "utf8");
  app.get("/", (_, reply) => reply.type("text/html").send(page));
  app.get("/counters", () => count());
}
