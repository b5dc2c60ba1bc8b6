import { AsyncLocalStorage } from "node:async_hooks";
import { channel, subscribe, unsubscribe } from "node:diagnostics_channel";
import type { CacheFenceEvents } from "cachefence";
import { afterEach, describe, expect, it } from "vitest";
import { Callers, Reporter } from "../../src/events.js";

const cleanUp: (() => void)[] = [];

function received<N extends keyof CacheFenceEvents>(name: N): CacheFenceEvents[N][] {
  const messages: CacheFenceEvents[N][] = [];
  const listener = (message: unknown) => messages.push(message as CacheFenceEvents[N]);
  subscribe(name, listener);
  cleanUp.push(() => unsubscribe(name, listener));
  return messages;
}

afterEach(() => {
  for (const undo of cleanUp.splice(0)) undo();
});

const zero = {
  hits: 0,
  misses: 0,
  earlyRefreshes: 0,
  rebuilds: 0,
  waits: 0,
  coalesced: 0,
  takeovers: 0,
  refusedStores: 0,
  staleServes: 0,
  redisErrors: 0,
  memoryHits: 0,
  fenceWaits: 0,
  redis: "ready",
};

const samples: { [N in Exclude<keyof CacheFenceEvents, "cachefence:hit">]: Omit<CacheFenceEvents[N], "namespace"> } = {
  "cachefence:miss": { key: "k" },
  "cachefence:early-refresh": { key: "k", remaining: 1, delta: 2 },
  "cachefence:rebuild-start": { key: "k", locked: true },
  "cachefence:rebuild-end": { key: "k", seconds: 1, stored: true },
  "cachefence:wait": { key: "k", seconds: 1 },
  "cachefence:takeover": { key: "k", seconds: 1 },
  "cachefence:refused-store": { key: "k", seconds: 1 },
  "cachefence:stale-serve": { key: "k", age: 1 },
  "cachefence:redis-error": { key: "k", error: new Error("e") },
  "cachefence:corrupt-entry": { key: "k", error: new Error("e") },
  "cachefence:copy-dropped": { key: "k" },
  "cachefence:fence-wait": { key: "k", seconds: 1 },
  "cachefence:no-memory": { reason: new Error("e") },
};
type Name = keyof typeof samples;

const counters: [Name, keyof typeof zero][] = [
  ["cachefence:miss", "misses"],
  ["cachefence:early-refresh", "earlyRefreshes"],
  ["cachefence:rebuild-start", "rebuilds"],
  ["cachefence:wait", "waits"],
  ["cachefence:takeover", "takeovers"],
  ["cachefence:refused-store", "refusedStores"],
  ["cachefence:stale-serve", "staleServes"],
  ["cachefence:redis-error", "redisErrors"],
  ["cachefence:fence-wait", "fenceWaits"],
];

const newReporter = () => new Reporter("ns:");

describe("Reporter", () => {
  it("starts from nothing", () => {
    expect(newReporter().stats("ready")).toEqual(zero);
  });

  it.each(Object.keys(samples) as Name[])("publishes %s with the namespace, to whoever listens at the time", (name) => {
    const reporter = newReporter();
    reporter.report(name, samples[name]);
    const messages = received(name);
    reporter.report(name, samples[name]);
    expect(messages).toEqual([{ namespace: "ns:", ...samples[name] }]);
  });

  it.each(counters)("counts each %s as one of %s, and as nothing else", (name, counter) => {
    const reporter = newReporter();
    reporter.report(name, samples[name]);
    reporter.report(name, samples[name]);
    expect(reporter.stats("ready")).toEqual({ ...zero, [counter]: 2 });
  });

  it("counts the end of a rebuild and a corrupt entry nowhere", () => {
    const reporter = newReporter();
    reporter.report("cachefence:rebuild-end", samples["cachefence:rebuild-end"]);
    reporter.report("cachefence:corrupt-entry", samples["cachefence:corrupt-entry"]);
    expect(reporter.stats("ready")).toEqual(zero);
  });

  it("counts hits with and without a listener, and tells listeners that came later than itself", () => {
    const reporter = newReporter();
    reporter.hit("k", 3, 0.5, "redis");
    const messages = received("cachefence:hit");
    reporter.hit("k", 2, 0.5, "memory");
    expect(reporter.stats("ready")).toEqual({ ...zero, hits: 2, memoryHits: 1 });
    expect(messages).toEqual([{ namespace: "ns:", key: "k", remaining: 2, delta: 0.5, source: "memory" }]);
    expect(channel("cachefence:hit").hasSubscribers).toBe(true);
  });

  it("counts coalesced calls", () => {
    const reporter = newReporter();
    reporter.coalesced(2);
    expect(reporter.stats("ready")).toEqual({ ...zero, coalesced: 2 });
  });

  it("tells of what happened to many calls at once to each, in its context, and to those from before anybody listened", () => {
    const reporter = newReporter();
    const callers = new Callers();
    const request = new AsyncLocalStorage<string>();
    const heard: unknown[] = [];
    const listener = (message: unknown) => heard.push([message, request.getStore()]);
    callers.add();
    subscribe("cachefence:miss", listener);
    cleanUp.push(() => unsubscribe("cachefence:miss", listener));
    for (const name of ["one", "other"]) request.run(name, () => callers.add());
    reporter.report("cachefence:miss", { key: "k" }, callers);
    const message = { namespace: "ns:", key: "k" };
    expect(heard).toEqual([undefined, "one", "other"].map((name) => [message, name]));
    expect(reporter.stats("ready")).toEqual({ ...zero, misses: 3 });
  });

  it("gives a copy that later events leave alone", () => {
    const reporter = newReporter();
    const before = reporter.stats("ready");
    reporter.hit("k", 1, 1, "redis");
    expect(before).toEqual(zero);
  });
});
