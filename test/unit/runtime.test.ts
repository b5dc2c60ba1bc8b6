import { AsyncLocalStorage } from "node:async_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it, vi } from "vitest";
import { bound, detached, systemRuntime } from "../../src/runtime.js";

const requests = new AsyncLocalStorage<string>();

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a timer", () => {
  it("may be a number, as in jsdom", () => {
    vi.stubGlobal("setTimeout", () => 7);
    const cleared = vi.fn();
    vi.stubGlobal("clearTimeout", cleared);
    for (const ref of [true, false]) systemRuntime.startTimer(1, ref, () => undefined)();
    expect(cleared.mock.calls).toEqual([[7], [7]]);
  });

  it("keeps the process alive only with `ref`", () => {
    const { ref, unref } = { ref: vi.fn(), unref: vi.fn() };
    vi.stubGlobal("setTimeout", () => ({ ref, unref }));
    systemRuntime.startTimer(1, true, () => undefined);
    expect(unref).not.toHaveBeenCalled();
    systemRuntime.startTimer(1, false, () => undefined);
    expect(unref).toHaveBeenCalledOnce();
  });

  it("runs, or not if it was cancelled", async () => {
    const run = vi.fn();
    systemRuntime.startTimer(1, false, run);
    systemRuntime.startTimer(1, false, run)();
    await sleep(20);
    expect(run).toHaveBeenCalledOnce();
  });

  it("that is idle keeps no request's context; one of a caller keeps its own", async () => {
    const seen = await requests.run("request", () =>
      Promise.all(
        [true, false].map(
          (ref) =>
            new Promise((resolve) => {
              systemRuntime.startTimer(1, ref, () => resolve(requests.getStore()));
              if (!ref) void sleep(20);
            }),
        ),
      ),
    );
    expect(seen).toEqual(["request", undefined]);
  });
});

describe("the monotonic clock", () => {
  it("is moved by fake timers", () => {
    vi.useFakeTimers();
    const before = systemRuntime.monotonicMs();
    vi.advanceTimersByTime(5_000);
    expect(systemRuntime.monotonicMs() - before).toBe(5_000);
  });
});

describe("randomness", () => {
  it.each([
    ["nonce", 12],
    ["memberId", 16],
  ] as const)("%s: %d hex digits, never twice the same", (name, length) => {
    const drawn = Array.from({ length: 1_000 }, () => systemRuntime[name]());
    for (const one of drawn) expect(one).toMatch(new RegExp(`^[0-9a-f]{${String(length)}}$`));
    expect(new Set(drawn).size).toBe(drawn.length);
  });

  it("is never 0", () => {
    vi.spyOn(Math, "random").mockReturnValueOnce(0);
    expect(systemRuntime.random()).toBe(1);
  });
});

describe("detached", () => {
  it("runs outside of any request, and so does what it begins", async () => {
    const [now, later] = requests.run("request", () =>
      detached(() => [requests.getStore(), sleep(1).then(() => requests.getStore())] as const),
    );
    expect(now).toBeUndefined();
    expect(await later).toBeUndefined();
  });

  it("gives back what the function returns or throws", () => {
    expect(detached(() => 1)).toBe(1);
    expect(() =>
      detached(() => {
        throw new Error("no");
      }),
    ).toThrow("no");
    expect(requests.run("request", () => (detached(() => 1), requests.getStore()))).toBe("request");
  });
});

describe("bound", () => {
  it("calls the function in the context in which it was bound, with all that it begins", async () => {
    const call = requests.run("first", () =>
      bound(async (a: number, b: number) => {
        const before = requests.getStore();
        await sleep(1);
        return [before, requests.getStore(), a + b];
      }),
    );
    expect(await requests.run("second", () => call(1, 2))).toEqual(["first", "first", 3]);
  });

  it("throws what the function throws", () => {
    const call = bound(() => {
      throw new Error("no");
    });
    expect(call).toThrow("no");
  });
});
