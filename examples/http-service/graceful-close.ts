import type { FastifyInstance } from "fastify";

/**
 * Lets `app.close()` end as soon as the open requests are answered. It closes the connections that are idle when it is
 * called; one that is kept alive after a last answer would hold it up for as long as the client likes.
 */
export function closeConnectionsAtTheEnd(app: FastifyInstance): void {
  let isClosing = false;
  app.addHook("preClose", async () => {
    isClosing = true;
  });
  app.addHook("onSend", async (_, reply) => {
    if (isClosing) reply.header("connection", "close");
  });
}
