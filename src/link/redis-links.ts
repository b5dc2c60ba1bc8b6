import type { RedisClient } from "./redis-client.js";
import type { LinkState } from "./outage.js";
import { RedisLink } from "./redis-link.js";
import { slotOf } from "./slots.js";
import type { Runtime } from "../runtime.js";

interface NodeLink {
  readonly link: RedisLink;
  /** Lives on that node: what its probe asks for. */
  probeKey: string;
}

/**
 * The link that a key's commands take: one for a single server; on a Cluster one per master, for one may be silent while
 * the others answer, and the keys of each must know of their own.
 */
export class RedisLinks {
  /** For what is no key's. */
  readonly any: RedisLink;
  readonly #client: RedisClient;
  readonly #isCluster: boolean;
  readonly #timeoutMs: number;
  readonly #runtime: Runtime;
  readonly #onRecovery: () => void;
  // "host:port" of a master -> its link. As many as the Cluster has ever had masters.
  readonly #nodes = new Map<string, NodeLink>();

  constructor(client: RedisClient, timeoutMs: number, runtime: Runtime, onRecovery: () => void) {
    this.#client = client;
    this.#isCluster = client.isCluster === true;
    this.#timeoutMs = timeoutMs;
    this.#runtime = runtime;
    this.#onRecovery = onRecovery;
    this.any = this.#open(() => client.time());
  }

  /** True where keys may be on several servers. */
  get areMany(): boolean {
    return this.#isCluster;
  }

  of(entryKey: string): RedisLink {
    if (!this.#isCluster) return this.any;
    const { slots, options } = this.#client;
    const master = slots?.[slotOf((options?.keyPrefix ?? "") + entryKey)]?.[0] ?? "not known yet";
    let node = this.#nodes.get(master);
    if (node === undefined) {
      const added: NodeLink = { link: this.#open(() => this.#client.pttl(added.probeKey)), probeKey: entryKey };
      this.#nodes.set(master, (node = added));
    }
    node.probeKey = entryKey;
    return node.link;
  }

  /** The worst of the links that are in use: a master that has left the Cluster counts no more. */
  get health(): LinkState {
    const masters = new Set(this.#nodes.size > 0 ? this.#client.slots?.map((nodes) => nodes[0]) : []);
    const inUse = [...this.#nodes].filter(([master]) => masters.has(master)).map(([, { link }]) => link.health);
    const states = [this.any.health, ...inUse];
    return states.find((state) => state === "lost") ?? states.find((state) => state === "silent") ?? "ready";
  }

  /** Leaves nothing on the caller's client. */
  close(): void {
    this.any.close();
    for (const { link } of this.#nodes.values()) link.close();
  }

  #open(probe: () => Promise<unknown>): RedisLink {
    const link = new RedisLink(this.#client, this.#timeoutMs, this.#runtime, probe);
    link.onRecovery = this.#onRecovery;
    return link;
  }
}
