import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import type { RedisClient } from "../../src/link/redis-client.js";
import type { Awakening, Ear } from "../../src/protocol/wake-up.js";
import { WakeUp } from "../../src/protocol/wake-up.js";
import { type Deferred, deferred } from "../support/deferred.js";
import { ManualRuntime, settle } from "../support/manual-runtime.js";

/** A connection that subscribes when the test says so. */
class Subscriber extends EventEmitter {
  readonly requests: { channel: string; answer: Deferred<unknown> }[] = [];
  readonly left: string[] = [];
  isOpen = true;

  subscribe(channel: string): Promise<unknown> {
    const answer = deferred<unknown>();
    this.requests.push({ channel, answer });
    return answer.promise;
  }

  unsubscribe(channel: string): Promise<unknown> {
    this.left.push(channel);
    return this.isOpen ? Promise.resolve(1) : Promise.reject(new Error("Connection is closed."));
  }

  disconnect(): void {
    this.isOpen = false;
    for (const { answer } of this.requests) answer.reject(new Error("Connection is closed."));
    this.emit("end");
  }

  /** Everything asked for so far is subscribed to. */
  async confirm(): Promise<void> {
    for (const { answer } of this.requests) answer.resolve(1);
    await settle();
  }
}

function setUp(client: Partial<RedisClient> = {}) {
  const runtime = new ManualRuntime();
  const subscribers: Subscriber[] = [];
  const duplicate = () => {
    const subscriber = new Subscriber();
    subscribers.push(subscriber);
    return subscriber;
  };
  const wakeUp = new WakeUp({ ...client, duplicate } as unknown as RedisClient, 1_000, runtime);
  const subscriber = () => subscribers.at(-1)!;

  /** An ear whose subscription is live. */
  const listenLive = async (channel = "channel") => {
    const ear = wakeUp.listen(channel);
    const first = ear.sleep(Infinity, true);
    await subscriber().confirm();
    expect(await first).toBe("subscribed");
    return ear;
  };
  /** How long a sleep lasts that nothing ends but time. */
  const timeAsleep = async (ear: Ear, longestMs = Infinity, holderPublishes = true) => {
    const beganMs = runtime.monotonicNowMs;
    const sleep = watch(ear.sleep(longestMs, holderPublishes));
    while (sleep.awakening === undefined) await runtime.advance(runtime.delaysMs[0]!);
    expect(sleep.awakening).toBe("timeout");
    return runtime.monotonicNowMs - beganMs;
  };
  return { runtime, wakeUp, subscribers, subscriber, listenLive, timeAsleep };
}

/** Looks at a sleep without waiting for it. */
function watch(sleep: Promise<Awakening>) {
  const seen: { awakening?: Awakening } = {};
  void sleep.then((awakening) => (seen.awakening = awakening));
  return seen;
}

const pollsFrom10To50 = [10, 15, 22.5, 33.75, 50, 50, 50];

describe("a sleeper with a live subscription", () => {
  it("looks again as soon as it is subscribed: what was published before is lost", async () => {
    const { wakeUp, subscriber } = setUp();
    const sleep = watch(wakeUp.listen("channel").sleep(Infinity, true));
    await settle();
    expect(sleep.awakening).toBeUndefined();
    await subscriber().confirm();
    expect(sleep.awakening).toBe("subscribed");
  });

  it.each([
    ["stored", "stored"],
    ["freed", "freed"],
    ["", "freed"],
  ] as const)("is woken by the news %o, as %s", async (message, awakening) => {
    const { subscriber, listenLive, runtime } = setUp();
    const sleep = watch((await listenLive()).sleep(Infinity, true));
    subscriber().emit("message", "another channel", message);
    await settle();
    expect(sleep.awakening).toBeUndefined();
    subscriber().emit("message", "channel", message);
    await settle();
    expect(sleep.awakening).toBe(awakening);
    expect(runtime.delaysMs).toEqual([]);
  });

  it("wakes by itself once a second, for a message may be lost and a holder may die", async () => {
    const { listenLive, timeAsleep } = setUp();
    const ear = await listenLive();
    for (let poll = 0; poll < 3; poll++) expect(await timeAsleep(ear)).toBe(1_000);
  });

  it("polls fast if the holder is one that publishes nothing", async () => {
    const { listenLive, timeAsleep } = setUp();
    const ear = await listenLive();
    for (const pollMs of pollsFrom10To50) expect(await timeAsleep(ear, Infinity, false)).toBeCloseTo(pollMs);
  });

  it("sleeps no longer than it is told, and not at all for a time that has passed", async () => {
    const { listenLive, timeAsleep } = setUp();
    const ear = await listenLive();
    expect(await timeAsleep(ear, 300)).toBe(300);
    expect(await timeAsleep(ear, -5)).toBe(0);
  });

  it("hears in its next sleep what came while it was awake, and that once", async () => {
    const { subscriber, listenLive, timeAsleep } = setUp();
    const ear = await listenLive();
    subscriber().emit("message", "channel", "stored");
    expect(await ear.sleep(Infinity, true)).toBe("stored");
    expect(await timeAsleep(ear)).toBe(1_000);
  });

  it("is a reason for the process to stay alive: its caller waits", async () => {
    const { runtime, listenLive } = setUp();
    void (await listenLive()).sleep(Infinity, true);
    expect(runtime.refs).toBe(1);
  });
});

describe("a sleeper without one", () => {
  it("relies on a subscription that is being made for 100 ms, then polls after 10 ms growing to 50", async () => {
    const { wakeUp, timeAsleep } = setUp();
    const ear = wakeUp.listen("channel");
    expect(await timeAsleep(ear)).toBe(100);
    for (const pollMs of pollsFrom10To50) expect(await timeAsleep(ear)).toBeCloseTo(pollMs);
  });

  it("polls from the first denial on, and asks no more on this connection", async () => {
    const { wakeUp, subscriber, subscribers, timeAsleep } = setUp();
    const ear = wakeUp.listen("channel");
    const first = watch(ear.sleep(Infinity, true));
    subscriber().requests[0]!.answer.reject(new Error("NOPERM this user has no permissions to access the channel"));
    await settle();
    expect(first.awakening).toBeUndefined();
    expect(await timeAsleep(wakeUp.listen("another channel"))).toBeGreaterThan(0);
    for (const pollMs of pollsFrom10To50) expect(await timeAsleep(ear)).toBeCloseTo(pollMs);
    expect(subscriber().requests.filter(({ channel }) => channel === "channel")).toHaveLength(1);
    expect(subscribers).toHaveLength(1);
  });

  it("on a Cluster polls and opens nothing: there, every message goes to every node", async () => {
    const { wakeUp, subscribers, timeAsleep } = setUp({ isCluster: true });
    const ear = wakeUp.listen("channel");
    for (const pollMs of pollsFrom10To50) expect(await timeAsleep(ear)).toBeCloseTo(pollMs);
    expect(subscribers).toEqual([]);
  });
});

describe("the subscriber", () => {
  it("is opened by the first sleep, not by listening, and is one for all channels", async () => {
    const { wakeUp, subscribers, listenLive } = setUp();
    const silent = wakeUp.listen("silent");
    expect(subscribers).toEqual([]);
    silent.close();
    for (const channel of ["a", "b", "c"]) await listenLive(channel);
    expect(subscribers).toHaveLength(1);
    expect(subscribers[0]!.requests.map(({ channel }) => channel)).toEqual(["a", "b", "c"]);
  });

  it("that ends wakes every sleeper, and the next sleep makes another", async () => {
    const { subscriber, subscribers, listenLive, runtime } = setUp();
    const ears = [await listenLive("a"), await listenLive("b")];
    const sleeps = ears.map((ear) => watch(ear.sleep(Infinity, true)));
    await runtime.advance(999);
    subscriber().disconnect();
    await settle();
    expect(sleeps).toEqual([{ awakening: "timeout" }, { awakening: "timeout" }]);
    await runtime.advance(1);
    const again = ears.map((ear) => watch(ear.sleep(Infinity, true)));
    expect(subscribers).toHaveLength(2);
    await subscriber().confirm();
    expect(again).toEqual([{ awakening: "subscribed" }, { awakening: "subscribed" }]);
  });

  it("is made at most once a second; meanwhile sleepers poll", async () => {
    const { wakeUp, subscriber, subscribers, runtime, timeAsleep } = setUp();
    const ear = wakeUp.listen("channel");
    const first = watch(ear.sleep(Infinity, true));
    subscriber().disconnect(); // Refused, say.
    await settle();
    expect(first.awakening).toBe("timeout");
    let polls = 0;
    for (; subscribers.length === 1; polls++) expect(await timeAsleep(ear)).toBeLessThanOrEqual(100);
    expect(runtime.monotonicNowMs).toBeGreaterThanOrEqual(1_000);
    expect(polls).toBeGreaterThan(15);
  });

  it("that has been replaced says nothing more of the ears of its successor", async () => {
    const { wakeUp, subscribers, runtime, timeAsleep, listenLive } = setUp();
    const ear = wakeUp.listen("channel");
    void ear.sleep(Infinity, true);
    const old = subscribers[0]!;
    old.emit("end"); // Its reply comes after its end.
    await runtime.advance(1_000);
    const live = await listenLive("another channel");
    old.requests[0]!.answer.reject(new Error("Connection is closed."));
    old.emit("end");
    await settle();
    expect(await timeAsleep(live)).toBe(1_000);
    const again = watch(ear.sleep(Infinity, true));
    await subscribers[1]!.confirm();
    expect(again.awakening).toBe("subscribed");
  });

  it("hears of a channel until its last listener has gone, whichever of them subscribed", async () => {
    const { wakeUp, subscriber, listenLive } = setUp();
    // A flight that has lost its lock listens, though it sleeps only later; another of its process waited before it.
    const later = wakeUp.listen("channel");
    const waiter = await listenLive();
    waiter.close();
    expect(subscriber().left).toEqual([]);
    later.close();
    expect(subscriber().left).toEqual(["channel"]);
  });

  it("goes on hearing of a channel whose listener has gone when another is asleep on it", async () => {
    const { subscriber, listenLive } = setUp();
    const [first, second] = [await listenLive(), await listenLive()];
    const sleep = watch(second.sleep(Infinity, true));
    first.close();
    subscriber().emit("message", "channel", "stored");
    await settle();
    expect(sleep.awakening).toBe("stored");
    expect(subscriber().left).toEqual([]);
  });

  it("that has ended is left without a word: no rejection comes of it", async () => {
    const { subscriber, listenLive } = setUp();
    const ear = await listenLive();
    subscriber().isOpen = false; // And has not told it yet.
    ear.close();
    await settle();
    expect(subscriber().left).toEqual(["channel"]);
  });
});

describe("closing", () => {
  it("an ear ends its sleep", async () => {
    const { listenLive, runtime } = setUp();
    const ear = await listenLive();
    const sleep = watch(ear.sleep(Infinity, true));
    ear.close();
    await settle();
    expect(sleep.awakening).toBe("timeout");
    expect(runtime.delaysMs).toEqual([]);
  });

  it("ends the connection for good: sleepers wake, and poll from then on", async () => {
    const { wakeUp, subscriber, subscribers, listenLive, runtime, timeAsleep } = setUp();
    const ear = await listenLive();
    const sleep = watch(ear.sleep(Infinity, true));
    wakeUp.close();
    await settle();
    expect(subscriber().isOpen).toBe(false);
    expect(sleep.awakening).toBe("timeout");
    await runtime.advance(5_000);
    for (const pollMs of pollsFrom10To50) expect(await timeAsleep(ear)).toBeCloseTo(pollMs);
    expect(subscribers).toHaveLength(1);
  });
});
