import { describe, expect, it } from "vitest";
import { CacheFence } from "../../src/cache-fence.js";
import { ModelClient, ModelServer } from "../explore/model.js";
import { ManualRuntime, settle } from "../support/manual-runtime.js";

/** All that this process sends is executed and answered, until it sends nothing more. */
async function exchange(client: ModelClient): Promise<void> {
  for (let trips = 0; trips < 10; trips++) {
    await settle();
    for (const connection of [client, ...client.subscribers]) {
      while (connection.outbound.length > 0) connection.executeNext();
      while (connection.inbound.length > 0) connection.deliverNext();
    }
  }
}

describe("a read that makes a copy", () => {
  it("does not come before its process is in the audience, though the server has forgotten the script", async () => {
    const runtime = new ManualRuntime();
    const server = new ModelServer(runtime.wallMs);
    const expiry = String(server.nowMs / 1000 + 600);
    server.execute("hset", ["k", "v", JSON.stringify("old"), "delta", "0", "expiry", expiry]);
    const [client, other] = [new ModelClient(server), new ModelClient(server)];
    const reader = new CacheFence(client, { memory: new Map() }, runtime);
    const fencer = new CacheFence(other, {}, runtime);
    const read = (): Promise<string> => reader.getOrSet("k", 60, () => "new");
    const copies = (): string[] => [...server.peekScores("k:audience").keys()];

    for (let reads = 0; reads < 3; reads++) await Promise.all([read(), exchange(client)]);
    expect(copies()).toEqual(["c0000000000000001:1000"]);
    // Its lease ends.
    server.nowMs += 1200;
    await runtime.advance(1200);
    server.flushScripts();
    const reading = read();
    await settle();
    while (client.outbound.length > 0) client.executeNext();
    while (client.inbound.length > 0) client.deliverNext();
    await settle();
    // The script is sent again, and has not come to the server, when the key is fenced.
    expect(client.outbound.map(({ name }) => name)).toEqual(["eval"]);
    await Promise.all([fencer.invalidate("k"), exchange(other)]);
    await Promise.all([reading, exchange(client)]);
    await Promise.all([expect(read()).resolves.toBe("new"), exchange(client)]);
  });
});
