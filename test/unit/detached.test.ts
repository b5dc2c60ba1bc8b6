import { AsyncLocalStorage } from "node:async_hooks";
import { EventEmitter } from "node:events";
import { expect, it } from "vitest";
import { openOwnConnection } from "../../src/link/own-connection.js";
import type { RedisClient } from "../../src/link/redis-client.js";
import { RedisLink } from "../../src/link/redis-link.js";
import { detached, type Runtime, systemRuntime } from "../../src/runtime.js";
import { until } from "../support/waiting.js";

const request = new AsyncLocalStorage<string>();

it("runs outside of the request", () => {
  expect(request.run("first", () => detached(() => request.getStore()))).toBeUndefined();
  expect(request.run("first", () => request.getStore())).toBe("first");
});

it("so do the timers of a link: those of its deadlines, and of what is tried again", async () => {
  const stores: (string | undefined)[] = [];
  const runtime: Runtime = {
    ...systemRuntime,
    startTimer: (delayMs, ref, run) => {
      return systemRuntime.startTimer(delayMs, ref, () => {
        stores.push(request.getStore());
        run();
      });
    },
  };
  const client = Object.assign(new EventEmitter(), { status: "ready" });
  const link = new RedisLink(client as unknown as RedisClient, 50, runtime);
  const refuse = () => Promise.reject(new Error("READONLY You can't write against a read only replica."));
  const untilMs = systemRuntime.monotonicMs() + 300;
  request.run("first", () => {
    link.deliver(refuse, untilMs).catch(() => undefined);
    link.send(() => new Promise(() => undefined)).catch(() => undefined);
  });
  await until("the timers have fired", () => stores.length >= 6);
  expect(new Set(stores)).toEqual(new Set([undefined]));
});

it("so do the listener for the end of an outage, and an own connection", () => {
  const stores: (string | undefined)[] = [];
  const client = Object.assign(new EventEmitter(), {
    status: "ready",
    once: (event: string) => stores.push(`${event}: ${String(request.getStore())}`),
    duplicate: () => {
      stores.push(`duplicate: ${String(request.getStore())}`);
      return new EventEmitter();
    },
  });
  const link = new RedisLink(client as unknown as RedisClient, 50, systemRuntime);
  request.run("first", () => {
    client.status = "reconnecting";
    expect(link.state).toBe("lost");
    openOwnConnection(client as unknown as RedisClient, 50);
  });
  link.close();
  expect(stores).toEqual(["ready: undefined", "duplicate: undefined"]);
});
