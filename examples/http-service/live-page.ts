import { readFile } from "node:fs/promises";
import type { FastifyInstance } from "fastify";
import type { Herd } from "./herd.js";

const MOST_CALLERS = 1_000;

const FILES = {
  "/": { name: "page.html", type: "text/html; charset=utf-8" },
  "/page.css": { name: "page.css", type: "text/css; charset=utf-8" },
  "/page.js": { name: "page.js", type: "text/javascript; charset=utf-8" },
};

/** `/` lets a herd loose inside this process, and asks `/herd` and `/counters` what it sees. */
export async function serveLivePage(app: FastifyInstance, herd: Herd, count: () => Promise<unknown>): Promise<void> {
  for (const [path, { name, type }] of Object.entries(FILES)) {
    const content = await readFile(new URL(`page/${name}`, import.meta.url), "utf8");
    app.get(path, (_, reply) => reply.type(type).send(content));
  }

  app.get("/counters", () => count());
  app.get("/herd", () => herd.look());
  const callers = { type: "integer", minimum: 2, maximum: MOST_CALLERS };
  const body = { type: "object", required: ["callers"], properties: { callers } };
  app.post<{ Body: { callers: number } }>("/herd", { schema: { body } }, (request, reply) => {
    if (herd.send(request.body.callers)) return reply.code(202).send();
    return reply.code(409).send({ message: "A herd is running" });
  });
}
