import { build } from "esbuild";
import { describe, expect, it } from "vitest";
import * as errors from "../../src/errors.js";

const { CacheFenceError, RecomputeError, RecomputeTimeoutError, RedisUnavailableError, SerializationError } = errors;

const samples = (from: typeof errors): Record<string, Error> => ({
  CacheFenceError: new from.CacheFenceError("message", "k"),
  RecomputeError: new from.RecomputeError("k", new Error("no")),
  RecomputeTimeoutError: new from.RecomputeTimeoutError("k", 1),
  SerializationError: new from.SerializationError("k", "serialize", new Error("no")),
  RedisUnavailableError: new from.RedisUnavailableError("message", "k"),
});
const names = Object.keys(samples(errors)) as (keyof typeof errors)[];

/** The package as a bundler makes it: a second copy of every class, under other names. */
async function bundled(): Promise<typeof errors> {
  const { outputFiles } = await build({
    entryPoints: ["src/index.ts"],
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    platform: "node",
  });
  return (await import(
    `data:text/javascript;base64,${Buffer.from(outputFiles[0]!.contents).toString("base64")}`
  )) as never;
}

describe("an error", () => {
  it.each(names)("has its own name, in its stack too: %s", (name) => {
    const error = samples(errors)[name]!;
    expect(error.name).toBe(name);
    expect(error.stack).toMatch(new RegExp(`^${name}: `));
    expect(Object.keys(error)).toEqual(name === "RecomputeTimeoutError" ? ["key", "seconds"] : ["key"]);
  });

  it("keeps its name in a minified bundle", async () => {
    for (const [name, error] of Object.entries(samples(await bundled()))) {
      expect([error.name, error.constructor.name]).toEqual([name, name]);
    }
  });

  it("is an instance of its class and of the base, and of no other", () => {
    for (const [name, error] of Object.entries(samples(errors))) {
      for (const other of names)
        expect(error instanceof errors[other]).toBe(other === name || other === "CacheFenceError");
    }
  });

  it("is known by every copy of the package in the process", async () => {
    const copy = await bundled();
    expect(copy.RecomputeError).not.toBe(RecomputeError);
    for (const [name, error] of Object.entries(samples(copy))) {
      expect(error).toBeInstanceOf(Error);
      for (const other of names)
        expect(error instanceof errors[other]).toBe(other === name || other === "CacheFenceError");
    }
  });

  it("is no instance of a subclass that somebody else has made", () => {
    class NotFound extends RecomputeError {}
    expect(new RecomputeError("k", 1)).not.toBeInstanceOf(NotFound);
    expect(new NotFound("k", 1)).toBeInstanceOf(NotFound);
    expect(new NotFound("k", 1)).toBeInstanceOf(RecomputeError);
    expect(new NotFound("k", 1)).not.toBeInstanceOf(RecomputeTimeoutError);
  });

  it.each([undefined, null, 1, "text", {}, new Error("other"), () => 1])("is not what %o is", (value) => {
    expect(value).not.toBeInstanceOf(CacheFenceError);
    expect(value).not.toBeInstanceOf(RedisUnavailableError);
  });

  it("has a cause only where there is one", () => {
    const cause = new Error("no");
    expect(new RecomputeError("k", cause).cause).toBe(cause);
    expect(new SerializationError("k", "serialize", undefined)).toHaveProperty("cause", undefined);
    expect(Object.hasOwn(new CacheFenceError("message", "k"), "cause")).toBe(false);
  });
});

describe("the message about a cause", () => {
  const refused = (...messages: string[]) =>
    new AggregateError(
      messages.map((message) => new Error(message)),
      "",
    );
  const loop = new AggregateError([], "");
  loop.errors.push(loop);

  it.each<[string, unknown, string]>([
    ["its message", new Error("no user"), "no user"],
    ["what was thrown", "text", "text"],
    [
      "the first error of an AggregateError without one",
      refused("connect ECONNREFUSED ::1:1", "second"),
      "connect ECONNREFUSED ::1:1",
    ],
    ["the code before it", Object.assign(refused("first"), { code: "ECONNREFUSED" }), "ECONNREFUSED: first"],
    ["the code alone", Object.assign(new Error(""), { code: "ECONNREFUSED" }), "ECONNREFUSED"],
    ["the name of the first error", refused("", "second"), "Error"],
    ["the name, if there is nothing else", new TypeError(""), "TypeError"],
    ["that there is none", "", "(no message)"],
    ["that there is none, for white space", new Error(" \n"), "(no message)"],
    ["that it cannot be shown", Object.create(null), "(an error that cannot be shown)"],
    ["that it cannot be shown, for an error inside itself", loop, "(an error that cannot be shown)"],
  ])("says %s", (_name, cause, words) => {
    expect(new RecomputeError("k", cause).message).toBe(`Recompute of "k" failed: ${words}`);
    expect(new SerializationError("k", "deserialize", cause).message).toBe(
      `Could not deserialize the value of "k": ${words}`,
    );
  });
});
