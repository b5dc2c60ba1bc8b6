import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A lying network between a client and a server. Each fault is played on every connection, open or new, until `heal`. */
export interface TcpProxy {
  readonly port: number;
  readonly url: string;
  /** Connections taken since the start. */
  readonly accepted: number;
  /** Connections open now. */
  readonly open: number;
  /** Replies come this much later. */
  delayReplies(ms: number): void;
  /** A black hole: whatever is sent is lost, in both directions; new connections are taken and hear nothing. */
  swallow(): void;
  /** Bytes wait in the network, in both directions. `heal` delivers them, in order. */
  hold(): void;
  /** The same, from the next request that matches on. Resolves when it has come. */
  holdFrom(request: RegExp): Promise<void>;
  /** Resets every connection; new ones work. */
  cut(): void;
  /** Resets the connection of the next request that matches, instead of passing it on. Resolves when it has come. */
  cutBefore(request: RegExp): Promise<void>;
  /** Passes the next request that matches on, and resets its connection instead of the reply. Resolves when that has come. */
  loseReplyTo(request: RegExp): Promise<void>;
  /** Tells the clients that nothing more will come (FIN), though the connections still take what they send. */
  halfClose(): void;
  /** Resets every connection and refuses new ones. */
  down(): void;
  /** Where new connections lead from now on; the open ones stay. */
  leadTo(port: number): void;
  /** The network tells the truth again. Connections that have lost bytes are reset, as TCP itself would end them. */
  heal(): void;
  stop(): Promise<void>;
}

interface Trap {
  readonly request: RegExp;
  readonly spring: "hold" | "cut before" | "lose reply";
  readonly sprung: () => void;
}

interface Link {
  readonly client: Socket;
  readonly server: Socket;
  /** Set while the reply to a trapped request is awaited, only to be dropped. */
  losing: (() => void) | undefined;
  hasLostBytes: boolean;
  /** Replies that are delayed, oldest first: none overtakes another, though the delay may have changed between them. */
  readonly late: Buffer[];
}

type Direction = "request" | "reply";

const host = "127.0.0.1";

export async function startTcpProxy(serverPort: number): Promise<TcpProxy> {
  const links = new Set<Link>();
  const traps = new Set<Trap>();
  // Bytes in the network while it holds them, in the order in which they came.
  const held: (() => void)[] = [];
  let mode: "truth" | "swallow" | "hold" | "down" = "truth";
  let replyDelayMs = 0;
  let target = serverPort;
  let accepted = 0;

  const reset = (link: Link) => {
    links.delete(link);
    link.client.resetAndDestroy();
    link.server.destroy();
  };

  const trap = (request: RegExp, spring: Trap["spring"]) =>
    new Promise<void>((resolve) => {
      const one: Trap = {
        request,
        spring,
        sprung: () => {
          traps.delete(one);
          resolve();
        },
      };
      traps.add(one);
    });

  const pass = (link: Link, direction: Direction, bytes: Buffer) => {
    if (mode === "swallow") {
      link.hasLostBytes = true;
      return;
    }
    if (mode === "hold") {
      held.push(() => pass(link, direction, bytes));
      return;
    }
    if (direction === "request") {
      for (const { request, spring, sprung } of traps) {
        if (!request.test(bytes.toString("latin1"))) continue;
        if (spring === "lose reply") {
          link.losing = sprung;
          break;
        }
        sprung();
        if (spring === "cut before") reset(link);
        else {
          mode = "hold";
          pass(link, direction, bytes);
        }
        return;
      }
      link.server.write(bytes);
    } else if (link.losing !== undefined) {
      link.losing();
      reset(link);
    } else if (replyDelayMs > 0 || link.late.length > 0) {
      link.late.push(bytes);
      setTimeout(() => link.client.write(link.late.shift()!), replyDelayMs);
    } else {
      link.client.write(bytes);
    }
  };

  const proxy = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    accepted++;
    if (mode === "down") {
      client.resetAndDestroy();
      return;
    }
    const server = connect({ host, port: target, allowHalfOpen: true, noDelay: true });
    const link: Link = { client, server, losing: undefined, hasLostBytes: false, late: [] };
    links.add(link);
    client.on("data", (bytes: Buffer) => pass(link, "request", bytes));
    server.on("data", (bytes: Buffer) => pass(link, "reply", bytes));
    client.on("end", () => server.end());
    server.on("end", () => client.end());
    for (const socket of [client, server]) {
      socket.on("error", () => reset(link));
      socket.on("close", () => reset(link));
    }
  });
  await new Promise<void>((resolve) => proxy.listen(0, host, resolve));
  const { port } = proxy.address() as AddressInfo;

  const cut = () => {
    for (const link of links) reset(link);
  };
  return {
    port,
    url: `redis://${host}:${port}`,
    get accepted() {
      return accepted;
    },
    get open() {
      return links.size;
    },
    delayReplies: (ms) => (replyDelayMs = ms),
    swallow: () => (mode = "swallow"),
    hold: () => (mode = "hold"),
    holdFrom: (request) => trap(request, "hold"),
    cut,
    cutBefore: (request) => trap(request, "cut before"),
    loseReplyTo: (request) => trap(request, "lose reply"),
    halfClose: () => {
      for (const { client } of links) client.end();
    },
    down: () => {
      mode = "down";
      cut();
    },
    leadTo: (serverPort) => (target = serverPort),
    heal: () => {
      mode = "truth";
      replyDelayMs = 0;
      for (const link of links) if (link.hasLostBytes) reset(link);
      for (const deliver of held.splice(0)) deliver();
    },
    stop: async () => {
      cut();
      await new Promise((resolve) => proxy.close(resolve));
    },
  };
}
