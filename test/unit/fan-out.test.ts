import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { FanOut } from "../../src/fan-out.js";

function setUp() {
  const target = new EventEmitter();
  const fanOut = new FanOut<EventEmitter>(
    (emitter, listener) => emitter.on("ready", listener),
    (emitter, listener) => emitter.off("ready", listener),
  );
  const heard: string[] = [];
  return { target, fanOut, heard };
}

describe("FanOut", () => {
  it("tells everybody with one listener, and keeps none afterwards", () => {
    const { target, fanOut, heard } = setUp();
    for (const name of ["a", "b", "c"]) fanOut.add(target, () => heard.push(name));
    expect(target.listenerCount("ready")).toBe(1);
    target.emit("ready");
    expect(heard).toEqual(["a", "b", "c"]);
    expect(target.listenerCount("ready")).toBe(0);
  });

  it("takes the listener off with the last who leaves, and does not tell those who have left", () => {
    const { target, fanOut, heard } = setUp();
    const first = () => heard.push("first");
    const second = () => heard.push("second");
    fanOut.add(target, first);
    fanOut.add(target, second);
    fanOut.remove(target, first);
    expect(target.listenerCount("ready")).toBe(1);
    fanOut.remove(target, second);
    expect(target.listenerCount("ready")).toBe(0);
    target.emit("ready");
    expect(heard).toEqual([]);
  });

  it("listens anew for who comes after the event", () => {
    const { target, fanOut, heard } = setUp();
    fanOut.add(target, () => heard.push("before"));
    target.emit("ready");
    fanOut.add(target, () => heard.push("after"));
    target.emit("ready");
    expect(heard).toEqual(["before", "after"]);
  });

  it("leaves targets apart", () => {
    const { target, fanOut, heard } = setUp();
    const other = new EventEmitter();
    fanOut.add(target, () => heard.push("target"));
    fanOut.add(other, () => heard.push("other"));
    other.emit("ready");
    expect(heard).toEqual(["other"]);
    expect(target.listenerCount("ready")).toBe(1);
  });
});
