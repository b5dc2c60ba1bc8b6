import type { RedisClient } from "../link/redis-client.js";
import { RedisLinks } from "../link/redis-links.js";
import { isCrossSlot, kindOf } from "../link/replies.js";
import { ServerClock } from "../link/server-clock.js";
import type { Runtime } from "../runtime.js";
import { Fences } from "./fences.js";
import { Mailbox } from "./mailbox.js";
import { ScriptRunner, ScriptedSteps } from "./scripted.js";
import type { ClaimRequest, EncodedEntry, Steps } from "./steps.js";
import type { KeyNames } from "./key-names.js";
import type { Token } from "./token.js";
import { WatchedSteps } from "./unscripted.js";
import { WatchConnection } from "./watch-connection.js";

/** The way to Redis with one deadline: all caches over a client that have the same share it, and what it knows. */
export interface Way {
  readonly links: RedisLinks;
  readonly clock: ServerClock;
  readonly steps: Steps;
}

// Kept as long as the client, and no longer.
/** A cache that is collected has left. */
const collected = new FinalizationRegistry<Conversation>((conversation) => {
  conversation.leave();
});

const conversations = new WeakMap<RedisClient, WeakMap<Runtime, Conversation>>();

/** What all caches over one client share: who they are for the fleet, and how they talk to it. */
export class Conversation {
  readonly client: RedisClient;
  readonly runtime: Runtime;
  readonly mailbox: Mailbox;
  readonly scripts: ScriptRunner;
  readonly fences: Fences;
  readonly #watching: WatchConnection;
  readonly #ways = new Map<number, Way>();
  // Set while the server denies scripting: the connection that was told so, where the client shows it. A new one asks again,
  // and so does the end of the fallback's own connection.
  #denial: { readonly stream: unknown } | undefined;
  /** True if the keys of one script must share a slot: a Cluster's do, and those of one node in cluster mode. */
  needsSlots: boolean;

  // Caches that are neither closed nor collected.
  #members = 0;

  static over(client: RedisClient, runtime: Runtime): Conversation {
    let ofClient = conversations.get(client);
    if (ofClient === undefined) conversations.set(client, (ofClient = new WeakMap()));
    let conversation = ofClient.get(runtime);
    if (conversation === undefined) ofClient.set(runtime, (conversation = new Conversation(client, runtime)));
    return conversation;
  }

  private constructor(client: RedisClient, runtime: Runtime) {
    this.client = client;
    this.runtime = runtime;
    this.needsSlots = client.isCluster === true;
    this.mailbox = new Mailbox(client, runtime);
    this.scripts = new ScriptRunner(client);
    this.fences = new Fences(this);
    this.mailbox.onClientEnd = () => {
      this.close();
    };
    this.#watching = new WatchConnection(client, runtime);
    this.#watching.onEnd = () => {
      this.#denial = undefined;
    };
  }

  join(cache: object): void {
    this.#members++;
    collected.register(cache, this, cache);
  }

  /** True if that was the last cache. */
  leave(cache?: object): boolean {
    if (cache !== undefined) collected.unregister(cache);
    return --this.#members <= 0;
  }

  get deniesScripting(): boolean {
    return this.#denial !== undefined && this.#denial.stream === this.client.stream;
  }

  way(timeoutMs: number): Way {
    let way = this.#ways.get(timeoutMs);
    if (way === undefined) this.#ways.set(timeoutMs, (way = this.#makeWay(timeoutMs)));
    return way;
  }

  #makeWay(timeoutMs: number): Way {
    const { client, runtime, mailbox } = this;
    const links = new RedisLinks(client, timeoutMs, runtime, () => {
      clock.distrust();
    });
    const clock: ServerClock = new ServerClock(links.any, runtime);
    const scripted = new ScriptedSteps(this.scripts, mailbox);
    const watched = new WatchedSteps(client, this.#watching, mailbox, clock, timeoutMs);
    const choose = <A>(run: (steps: Steps) => Promise<A>): Promise<A> => this.#choose(run, scripted, watched);
    const steps: Steps = {
      claim: (names: KeyNames, request: ClaimRequest) => choose((by) => by.claim(names, request)),
      store: (names: KeyNames, token: Token, entry: EncodedEntry) => choose((by) => by.store(names, token, entry)),
      free: (names: KeyNames, token: Token, pauseMs: number) => choose((by) => by.free(names, token, pauseMs)),
      renew: (names: KeyNames, token: Token, grown: Token, leaseMs: number, waitMs: number) =>
        choose((by) => by.renew(names, token, grown, leaseMs, waitMs)),
      fence: (names: KeyNames, fence: string, entry: EncodedEntry | undefined) =>
        choose((by) => by.fence(names, fence, entry)),
      tag: (names: KeyNames, kept: string | undefined, keepMs: number) => choose((by) => by.tag(names, kept, keepMs)),
    };
    return { links, clock, steps };
  }

  /** By script, or by WATCH while the server denies scripting. */
  async #choose<A>(run: (steps: Steps) => Promise<A>, scripted: Steps, watched: Steps): Promise<A> {
    const isWatched = this.deniesScripting;
    if (!isWatched) this.#denial = undefined;
    const { needsSlots } = this;
    try {
      return await run(isWatched ? watched : scripted);
    } catch (error) {
      // Names are asked for anew at each run: this one takes those that share a slot.
      if (isCrossSlot(error) && !needsSlots) this.needsSlots = true;
      else if (kindOf(error) === "scripting-denied" && !isWatched) this.#denial = { stream: this.client.stream };
      else throw error;
      return this.#choose(run, scripted, watched);
    }
  }

  /** Ends the connections of the library's own. Whoever needs one next opens it again. */
  close(): void {
    this.mailbox.close();
    this.#watching.close();
    for (const { links } of this.#ways.values()) links.close();
  }
}
