import { openOwnConnection, openSubscriber, type OwnConnection } from "../../src/link/own-connection.js";
import { majors } from "./ioredis.js";
import { until } from "./waiting.js";

interface Own extends OwnConnection {
  get(key: string): Promise<unknown>;
  subscribe(channel: string): Promise<unknown>;
  publish(channel: string, message: string): Promise<unknown>;
}

// Opens both kinds of own connections, uses them, closes its client, and ends: neither keeps it alive.
const [name, kind, ...ports] = process.argv.slice(2);
const { Redis, Cluster } = majors.find((major) => major.name === name)!;
const nodes = ports.map((port) => ({ host: "127.0.0.1", port: Number(port) }));
const client =
  kind === "cluster"
    ? new Cluster(nodes, { slotsRefreshInterval: 1_000 })
    : new Redis({ sentinels: nodes, name: "primary", failoverDetector: true });
await until("the client is ready", () => client.status === "ready");
const own = openOwnConnection(client, 5_000) as Own;
await own.get("key");
const subscriber = openSubscriber(client, 5_000) as Own;
const heard = new Promise((resolve) => subscriber.on("message", (_: string, message: string) => resolve(message)));
await subscriber.subscribe("channel");
await client.publish("channel", "heard");
console.log(await heard);
client.disconnect();
