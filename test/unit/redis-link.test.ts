import { EventEmitter } from "node:events";
import { Writable } from "node:stream";
import { describe, expect, it, vi } from "vitest";
import { RedisUnavailableError } from "../../src/errors.js";
import { OwnConnectionError } from "../../src/link/own-connection.js";
import type { RedisClient } from "../../src/link/redis-client.js";
import { RedisFault, RedisLink } from "../../src/link/redis-link.js";
import { type Deferred, deferred } from "../support/deferred.js";
import { ManualRuntime, settle } from "../support/manual-runtime.js";

const timeoutMs = 1_000;
const deadlineMs = timeoutMs;
const never = () => new Promise<never>(() => undefined);

/** A client that answers nothing by itself: its status, its probes and every reply are the test's. */
class SilentClient extends EventEmitter {
  status: string | undefined;
  readonly probes: Deferred<unknown>[] = [];

  constructor(status: string | undefined) {
    super();
    this.status = status;
  }

  time(): Promise<unknown> {
    const probe = deferred<unknown>();
    this.probes.push(probe);
    return probe.promise;
  }

  become(status: string): void {
    this.status = status;
    this.emit(status);
  }
}

function setUp(status: string | undefined = "ready") {
  const runtime = new ManualRuntime();
  const client = new SilentClient(status);
  const link = new RedisLink(client as unknown as RedisClient, timeoutMs, runtime);
  const onRecovery = vi.fn();
  link.onRecovery = onRecovery;

  /** Sends a command, whose reply is to come. */
  const send = () => {
    const reply = deferred<unknown>();
    const command = vi.fn(() => reply.promise);
    return { reply, command, result: outcomeOf(link.send(command)) };
  };
  /** True if a command is let through to the client. It is answered at once, and the answer is no sign of life before. */
  const isOpen = () => {
    const command = vi.fn(never);
    link.send(command).catch(() => undefined);
    return command.mock.calls.length === 1;
  };
  /** Lets the deadline of a command pass in vain. */
  const fallSilent = async () => {
    const lost = send();
    await runtime.advance(deadlineMs);
    expect(lost.result.error).toBeInstanceOf(RedisFault);
    return lost;
  };
  return { runtime, client, link, onRecovery, send, isOpen, fallSilent };
}

function throwIt(thrown: unknown): never {
  throw thrown;
}

/** Looks at a promise without waiting for it. */
function outcomeOf(promise: Promise<unknown>) {
  const outcome: { isSettled: boolean; value?: unknown; error?: unknown } = { isSettled: false };
  promise.then(
    (value) => Object.assign(outcome, { isSettled: true, value }),
    (error: unknown) => Object.assign(outcome, { isSettled: true, error }),
  );
  return outcome;
}

describe("a reply", () => {
  it("is handed on, decoded where a decoder is given", async () => {
    const { link } = setUp();
    expect(await link.send(async () => "reply")).toBe("reply");
    const read = {
      fetch: async (_: unknown, about: string) => `reply of ${about}`,
      decode: (reply: string) => reply.length,
    };
    expect(await link.read(read, "7")).toBe(10);
  });

  it("that its decoder cannot read is a failure of the client, and is waited for no longer", async () => {
    const { link, runtime, isOpen } = setUp();
    const error = new TypeError("not an array");
    const decode = () => {
      throw error;
    };
    const fault = await link.read({ fetch: async () => "reply", decode }, undefined).catch((thrown: unknown) => thrown);
    expect(fault).toBeInstanceOf(RedisFault);
    const shown = (fault as RedisFault).toError("key");
    expect(shown).toBeInstanceOf(RedisUnavailableError);
    expect(shown.message).toContain("not an array");
    expect(shown.cause).toBe(error);
    await runtime.advance(deadlineMs);
    expect(isOpen()).toBe(true);
  });

  it.each(["QUEUED", Buffer.from("QUEUED")])(
    "that puts the command into the application's transaction says so, in every way of sending: %o",
    async (queued) => {
      const { link } = setUp();
      const command = async () => queued;
      for (const sent of [
        link.send(command),
        link.read({ fetch: command, decode: String }, undefined),
        link.deliver(command, 0),
      ]) {
        const fault = await sent.catch((thrown: unknown) => thrown);
        expect(fault).toBeInstanceOf(RedisFault);
        expect((fault as RedisFault).toError("key")).toMatchObject({
          name: "RedisUnavailableError",
          message: expect.stringContaining("transaction open on this client's connection (MULTI)") as string,
        });
      }
    },
  );

  it.each([
    ["throws", () => JSON.parse("{") as never, "JSON"],
    ["throws what is no error", () => throwIt("text"), "text"],
    ["returns no promise", () => undefined, "no promise"],
  ])("of a client that %s is a failure of the client, in every way of sending", async (_, act, text) => {
    const { link, isOpen } = setUp();
    const command = act as unknown as () => Promise<string>;
    for (const sent of [
      link.send(command),
      link.read({ fetch: command, decode: String }, undefined),
      link.deliver(command, 0),
    ]) {
      const fault = await sent.catch((thrown: unknown) => thrown);
      expect(fault).toBeInstanceOf(RedisFault);
      expect((fault as RedisFault).toError("key")).toBeInstanceOf(RedisUnavailableError);
      expect((fault as RedisFault).message).toContain(text);
    }
    // Nothing was sent, so nothing was left unanswered.
    expect(isOpen()).toBe(true);
  });

  it("of a client that could not be shown a key is in the words of Redis, without those of the script", async () => {
    const { link } = setUp();
    const error = new Error(
      "ERR Error running script (call to f_0a): @user_script:2: WRONGTYPE Operation against a key",
    );
    const shown = await link.send(() => Promise.reject(error)).catch((thrown: unknown) => thrown);
    expect(shown).toMatchObject({ message: "WRONGTYPE Operation against a key", cause: error });
  });

  it("is waited for until the deadline, and no longer", async () => {
    const { runtime, send } = setUp();
    const { result } = send();
    await runtime.advance(timeoutMs - 1);
    expect(result.isSettled).toBe(false);
    await runtime.advance(1);
    const fault = result.error as RedisFault;
    expect(fault).toBeInstanceOf(RedisFault);
    const error = fault.toError("user:1");
    expect(error).toBeInstanceOf(RedisUnavailableError);
    expect(error).toMatchObject({
      key: "user:1",
      message: 'Redis did not answer within redisTimeout (1 s); key "user:1"',
    });
  });

  it("of many reads lands once each, the failed ones in their places, and a late one not again", async () => {
    const { runtime, link } = setUp();
    const replies = [deferred<unknown>(), deferred<unknown>(), deferred<unknown>()];
    const read = { fetch: (_: unknown, place: number) => replies[place]!.promise, decode: (reply: unknown) => [reply] };
    const landed: [number, unknown][] = [];
    let isOver = false;
    void link.readAll(read, [0, 1, 2], (index, content) => landed.push([index, content])).then(() => (isOver = true));
    replies[1]!.resolve("second");
    await settle();
    expect(landed).toEqual([[1, ["second"]]]);
    // The answer to a younger read is no word of the older one, which lands at its deadline; then the reply comes after all.
    replies[2]!.reject(new Error("WRONGTYPE of the third"));
    await runtime.advance(2 * deadlineMs);
    replies[0]!.resolve("late");
    await settle();
    expect(landed.map(([index]) => index)).toEqual([1, 2, 0]);
    expect(landed[1]![1]).toMatchObject({ message: "WRONGTYPE of the third" });
    expect(landed[2]![1]).toBeInstanceOf(RedisFault);
    expect(isOver).toBe(true);
  });

  it("of no reads is over at once", async () => {
    const { runtime, link } = setUp();
    const read = { fetch: () => never(), decode: () => expect.fail("there is nothing to decode") };
    await link.readAll(read, [], () => expect.fail("there is nothing to land"));
    expect(runtime.delaysMs).toEqual([]);
  });

  it.each([0, 1, 2])("of many reads lands at its deadline when it alone is not answered: %d", async (silent) => {
    const { runtime, link } = setUp();
    const replies = [deferred<unknown>(), deferred<unknown>(), deferred<unknown>()];
    const read = { fetch: (_: unknown, place: number) => replies[place]!.promise, decode: (reply: unknown) => [reply] };
    const landed: unknown[] = [];
    const all = link.readAll(read, [0, 1, 2], (index, content) => (landed[index] = content));
    replies.forEach(({ resolve }, index) => {
      if (index !== silent) resolve(index);
    });
    await settle();
    expect(landed[silent]).toBeUndefined();
    await runtime.advance(2 * deadlineMs);
    await all;
    expect(landed.map((content, index) => (index === silent ? content instanceof RedisFault : content))).toEqual(
      [[0], [1], [2]].map((content, index) => (index === silent ? true : content)),
    );
  });

  it("has a deadline counted from the tick in which its command was sent", async () => {
    const { runtime, send } = setUp();
    const first = send();
    await runtime.advance(600);
    const second = send();
    await runtime.advance(500);
    expect([first.result.isSettled, second.result.isSettled]).toEqual([true, false]);
    await runtime.advance(600);
    expect(second.result.isSettled).toBe(true);
  });

  it("costs no timer of its own, none that keeps the process alive, and none once it has come", async () => {
    const { runtime, send } = setUp();
    const sent = Array.from({ length: 100 }, send);
    await settle();
    sent.push(send()); // In another tick.
    expect(runtime.delaysMs).toHaveLength(1);
    expect(runtime.refs).toBe(0);
    for (const { reply } of sent) reply.resolve("reply");
    await runtime.advance(timeoutMs);
    expect(runtime.delaysMs).toEqual([]);
  });

  it.each([
    "NOPERM No permissions to access a key",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR The user executing the script can't run this command or subcommand",
    "ERR The user executing the script can't access at least one of the keys mentioned",
  ])("that concerns the key is the error that it is: %s", async (message) => {
    const { link } = setUp();
    const error = new Error(message);
    await expect(link.send(() => Promise.reject(error))).rejects.toBe(error);
  });

  it.each(["READONLY You can't write against a read only replica.", "OOM command not allowed", "LOADING Redis is"])(
    "that refuses work is a failure of Redis, which shows the caller the client's own error: %s",
    async (message) => {
      const { link } = setUp();
      const error = new Error(message);
      const fault = await link.send(() => Promise.reject(error)).catch((thrown: unknown) => thrown);
      expect(fault).toBeInstanceOf(RedisFault);
      expect((fault as RedisFault).toError("key")).toBe(error);
    },
  );
});

describe("a tick", () => {
  it("is one for all commands of one turn, and another in the next", async () => {
    const { link } = setUp();
    const tick = link.tick();
    expect(link.tick()).toBe(tick);
    await settle();
    expect(link.tick()).not.toBe(tick);
  });

  it("ends with its first reply, which a client in memory gives within it", async () => {
    const { link } = setUp(undefined);
    const tick = link.tick();
    const next = await new Promise((resolve) => {
      void link.send(() => ({ then: (answer: (reply: string) => void) => answer("reply") }) as Promise<string>);
      resolve(link.tick());
    });
    expect(next).not.toBe(tick);
  });
});

describe("the socket", () => {
  const setUpSocket = (status: string | undefined) => {
    const written: number[] = [];
    const socket = new Writable({
      write: (_chunk, _encoding, done) => {
        written.push(1);
        done();
      },
      writev: (chunks, done) => {
        written.push(chunks.length);
        done();
      },
    });
    const { client, runtime, link } = setUp(status);
    Object.assign(client, { stream: socket });
    const write = () => {
      socket.write("command");
      return never();
    };
    const answers: ((value: unknown) => void)[] = [];
    const fetch = () => {
      socket.write("command");
      return new Promise<unknown>((resolve) => answers.push(resolve));
    };
    const read = () => void link.read({ fetch, decode: () => undefined }, undefined).catch(() => undefined);
    const answer = async () => {
      for (const resolve of answers.splice(0)) resolve([]);
      await settle();
    };
    /** The reply to something else comes, and this turn of the event loop is not over yet. */
    const hearReply = async () => {
      await link.send(() => Promise.resolve("PONG"));
    };
    const endTurn = () => new Promise<void>((resolve) => setImmediate(resolve));
    const send = () => void link.send(write).catch(() => undefined);
    const deliver = () => void link.deliver(write, Infinity).catch(() => undefined);
    return { client, runtime, link, socket, written, read, answer, hearReply, endTurn, send, deliver };
  };

  it("gets the reads of a turn together, before anything is awaited", async () => {
    const { socket, written, read } = setUpSocket("ready");
    for (let turn = 0; turn < 2; turn++) {
      written.length = 0;
      read();
      read();
      socket.write("a command of the application's");
      expect(written).toEqual([]);
      await Promise.resolve();
      expect(written).toEqual([3]);
      expect(socket.writableCorked).toBe(0);
    }
  });

  it("gets them in parts, each twice as long, in a turn in which replies have come, while the server has little to do", async () => {
    const { socket, written, read, answer, hearReply, endTurn } = setUpSocket("ready");
    for (let turn = 0; turn < 2; turn++) {
      await answer();
      await hearReply();
      written.length = 0;
      for (let reads = 0; reads < 100; reads++) read();
      expect(written).toEqual([1, 8, 16, 32]);
      await Promise.resolve();
      expect(written).toEqual([1, 8, 16, 32, 43]);
      expect(socket.writableCorked).toBe(0);
    }
    await answer();
    await hearReply();
    await endTurn();
    written.length = 0;
    for (let reads = 0; reads < 100; reads++) read();
    await Promise.resolve();
    expect(written).toEqual([100]);
  });

  it("gets them all together while the server has enough to do", async () => {
    const { socket, written, read, answer, hearReply } = setUpSocket("ready");
    for (let reads = 0; reads < 16; reads++) read();
    await Promise.resolve();
    written.length = 0;
    for (let turn = 0; turn < 2; turn++) {
      await hearReply();
      for (let reads = 0; reads < 30; reads++) read();
      expect(written).toEqual([]);
      await Promise.resolve();
      expect(written.splice(0)).toEqual([30]);
      expect(socket.writableCorked).toBe(0);
    }
    await answer();
    await hearReply();
    read();
    expect(written).toEqual([1]);
  });

  it("gets the first read at once again when what was out has been given up, and when that is answered late", async () => {
    const { client, runtime, written, read, answer, hearReply } = setUpSocket("ready");
    for (let reads = 0; reads < 40; reads++) read();
    // Some clients never answer what was out when a connection was lost.
    client.status = "reconnecting";
    await runtime.advance(deadlineMs);
    client.become("ready");
    written.length = 0;
    for (const late of [false, true]) {
      if (late) await answer();
      await hearReply();
      read();
      expect(written).toEqual(late ? [1, 1] : [1]);
      await Promise.resolve();
    }
    for (let reads = 0; reads < 16; reads++) read();
    await hearReply();
    written.length = 0;
    read();
    expect(written).toEqual([]);
  });

  it.each(["send", "deliver"] as const)("gets whatever is no read at once, here by %s", async (way) => {
    const { socket, written, read, ...ways } = setUpSocket("ready");
    ways[way]();
    ways[way]();
    expect(written).toEqual([1, 1]);
    read();
    read();
    ways[way]();
    expect(written).toEqual([1, 1, 3]);
    read();
    read();
    await Promise.resolve();
    expect(written).toEqual([1, 1, 3, 2]);
    expect(socket.writableCorked).toBe(0);
  });

  it.each(["read", "send", "deliver"] as const)(
    "gets all of a turn in one write where that is wanted, here by %s",
    async (way) => {
      const up = setUpSocket("ready");
      for (let turn = 0; turn < 2; turn++) {
        up.written.length = 0;
        up.link.holdBack();
        up[way]();
        up[way]();
        // As a chain of promises goes on, for each of many items.
        await Promise.all(
          Array.from({ length: 100 }, async (_, number) => {
            for (let hops = 0; hops < number % 7; hops++) await Promise.resolve();
            up.link.holdBack();
            up[way]();
          }),
        );
        expect(up.written).toEqual([]);
        await settle();
        expect(up.written).toEqual([102]);
        expect(up.socket.writableCorked).toBe(0);
      }
      up.send();
      expect(up.written).toEqual([102, 1]);
    },
  );

  it("holds nothing back on purpose where there is none, or none yet", async () => {
    const { client, link, socket, send, written } = setUpSocket("connecting");
    link.holdBack();
    send();
    expect(written).toEqual([1]);
    Object.assign(client, { stream: undefined, status: "ready" });
    link.holdBack();
    send();
    await settle();
    expect(socket.writableCorked).toBe(0);
  });

  it("is let go though the client has another by then", async () => {
    const { client, socket, written, read } = setUpSocket("ready");
    read();
    read();
    Object.assign(client, { stream: undefined });
    await Promise.resolve();
    expect(written).toEqual([2]);
    expect(socket.writableCorked).toBe(0);
  });

  it("is left alone while the client connects, and where it is none", async () => {
    const { client, socket, read } = setUpSocket("connecting");
    read();
    expect(socket.writableCorked).toBe(0);
    Object.assign(client, { stream: { cork: () => expect.fail("corked what cannot be uncorked") } });
    client.become("ready");
    read();
    await Promise.resolve();
  });
});

describe("a silent Redis", () => {
  it("is asked nothing but a probe a second", async () => {
    const { runtime, client, link, fallSilent } = setUp();
    await fallSilent();
    const command = vi.fn(never);
    for (let tenths = 0; tenths < 35; tenths++) {
      await expect(link.send(command)).rejects.toThrow("Redis did not answer within redisTimeout (1 s)");
      await runtime.advance(100);
    }
    expect(command).not.toHaveBeenCalled();
    expect(client.probes).toHaveLength(3);
  });

  it.each([
    ["a reply to the probe", (client: SilentClient) => client.probes[0]!.resolve(["1", "1"])],
    ["an error reply to the probe", (client: SilentClient) => client.probes[0]!.reject(new Error("NOPERM time"))],
    ["a new connection", (client: SilentClient) => client.become("ready")],
  ])("is over with %s, and it is told once", async (_, end) => {
    const { runtime, client, isOpen, fallSilent, onRecovery } = setUp();
    await fallSilent();
    await runtime.advance(1_000);
    expect(isOpen()).toBe(false); // And a probe is on its way.
    end(client);
    await settle();
    expect(isOpen()).toBe(true);
    expect(onRecovery).toHaveBeenCalledTimes(1);
  });

  it("is over with a reply that comes after its deadline, before anything that waits for that reply goes on", async () => {
    const { link, runtime, isOpen } = setUp();
    const reply = deferred();
    let isOpenThen: boolean | undefined;
    // As the freeing of a late claim waits for the claim itself.
    const command = () => {
      const sent = reply.promise;
      return sent;
    };
    link.send(command).catch(() => {
      void reply.promise.then(() => (isOpenThen = isOpen()));
    });
    await runtime.advance(deadlineMs);
    expect(isOpen()).toBe(false);
    reply.resolve();
    await settle();
    expect(isOpenThen).toBe(true);
  });

  it("goes on when the probe fails in the client, or when it gets no reply either", async () => {
    const { runtime, client, isOpen, fallSilent } = setUp();
    await fallSilent();
    await runtime.advance(1_000);
    isOpen();
    client.probes[0]!.reject(new Error("Command timed out"));
    await runtime.advance(1_000);
    expect(isOpen()).toBe(false);
    await runtime.advance(deadlineMs);
    expect(isOpen()).toBe(false);
    expect(client.probes).toHaveLength(3);
  });

  it("is none when something sent later was answered: that one reply was slow or lost", async () => {
    const { runtime, send, isOpen } = setUp();
    const slow = send();
    await settle();
    send().reply.resolve("reply");
    await runtime.advance(deadlineMs);
    expect(slow.result.error).toBeInstanceOf(RedisFault);
    expect(isOpen()).toBe(true);
  });

  it("is one when only something sent earlier was answered", async () => {
    const { runtime, send, isOpen } = setUp();
    const earlier = send();
    await settle();
    send();
    earlier.reply.resolve("reply");
    await settle();
    await runtime.advance(deadlineMs);
    expect(isOpen()).toBe(false);
  });

  it("is noticed by the client's own shorter deadline too", async () => {
    const { send, isOpen } = setUp();
    const { reply, result } = send();
    const error = new Error("Command timed out");
    reply.reject(error);
    await settle();
    expect(result.error).toBeInstanceOf(RedisFault);
    const shown = (result.error as RedisFault).toError("key");
    expect(shown).toBeInstanceOf(RedisUnavailableError);
    expect(shown.message).toBe('The client gave the command up: Command timed out; key "key"');
    expect(shown.cause).toBe(error);
    expect(isOpen()).toBe(false);
  });

  it("is none when the client gives one command up and has had a reply to a later one", async () => {
    const { send, isOpen } = setUp();
    const slow = send();
    await settle();
    send().reply.resolve("reply");
    await settle();
    slow.reply.reject(new Error("Command timed out"));
    await settle();
    expect(isOpen()).toBe(true);
  });

  it("ends no wait twice: a client that gives a command up after the link has is not heard", async () => {
    const { runtime, client, fallSilent, isOpen } = setUp();
    const { reply } = await fallSilent();
    client.become("ready");
    await runtime.advance(0);
    expect(isOpen()).toBe(true);
    reply.reject(new Error("Connection is closed."));
    await settle();
    expect(runtime.refs).toBe(0);
  });
});

describe("a lost connection", () => {
  it("is waited for by nobody, and sent nothing, whatever the client would queue", async () => {
    const { client, link } = setUp();
    client.become("reconnecting");
    const command = vi.fn(never);
    await expect(link.send(command)).rejects.toThrow("lost its connection to Redis (status reconnecting)");
    expect(command).not.toHaveBeenCalled();
    expect(client.probes).toEqual([]);
  });

  it("ends the wait for what is in flight, long before its deadline", async () => {
    const { runtime, client, send } = setUp();
    const { result } = send();
    await runtime.advance(50);
    client.become("reconnecting");
    await runtime.advance(100);
    expect((result.error as Error).message).toContain("lost its connection");
  });

  it("is back when the client says ready, without a probe and though it fell silent before", async () => {
    const { client, isOpen, fallSilent, onRecovery } = setUp();
    await fallSilent();
    client.become("close");
    expect(isOpen()).toBe(false);
    client.become("ready");
    expect(isOpen()).toBe(true);
    expect(onRecovery).toHaveBeenCalledTimes(1);
    expect(client.probes).toEqual([]);
  });

  it("begins no silence by what the client rejects while it is away", async () => {
    const { client, send, isOpen } = setUp();
    const { reply } = send();
    client.become("close");
    reply.reject(new Error("Connection is closed."));
    await settle();
    // Only the status tells: a listener could have been told late.
    client.status = "ready";
    expect(isOpen()).toBe(true);
  });

  it("is none while the client makes its first one: that is waited for until the deadline", async () => {
    const { runtime, client, send, isOpen } = setUp("connecting");
    const { result } = send();
    await runtime.advance(timeoutMs - 1);
    expect(result.isSettled).toBe(false);
    await runtime.advance(101);
    expect(result.error).toBeInstanceOf(RedisFault);
    expect(isOpen()).toBe(false);
    client.become("ready");
    expect(isOpen()).toBe(true);
  });

  it("is none for a client that shows no status", async () => {
    const { isOpen } = setUp(undefined);
    expect(isOpen()).toBe(true);
  });
});

describe("the backlog of this process", () => {
  /** Sends n commands in one turn. */
  const sendMany = (up: ReturnType<typeof setUp>, count: number) => Array.from({ length: count }, up.send);

  it("is no silence: while older replies come, a younger command waits on, however long", async () => {
    const up = setUp();
    const sent = sendMany(up, 20);
    await settle();
    const younger = up.send();
    for (const { reply, result } of sent) {
      await up.runtime.advance(timeoutMs - 1);
      expect(result.isSettled).toBe(false);
      reply.resolve("reply");
      await settle();
      expect(result.value).toBe("reply");
    }
    await up.runtime.advance(timeoutMs - 1);
    younger.reply.resolve("reply");
    await settle();
    expect(younger.result.value).toBe("reply");
    expect(up.link.state).toBe("ready");
  });

  it("ends with the last reply that comes: a Redis that falls silent costs one deadline from there", async () => {
    const up = setUp();
    const [first, ...sent] = sendMany(up, 10);
    await settle();
    const younger = up.send();
    await up.runtime.advance(900);
    first!.reply.resolve("reply");
    await settle();
    await up.runtime.advance(timeoutMs - 1);
    expect(younger.result.isSettled).toBe(false);
    await up.runtime.advance(1);
    for (const { result } of [...sent, younger]) expect(result.error).toBeInstanceOf(RedisFault);
    expect(up.link.state).toBe("silent");
  });

  it("gives nothing to a command that a younger one has overtaken: its reply is lost, or slow by itself", async () => {
    const up = setUp();
    const lost = up.send();
    await settle();
    for (let tenths = 0; tenths < 10; tenths++) {
      const younger = up.send();
      await up.runtime.advance(99);
      younger.reply.resolve("reply");
      await up.runtime.advance(1);
    }
    expect(lost.result.error).toBeInstanceOf(RedisFault);
    expect(up.link.state).toBe("ready");
  });

  it("is told from a reply that was lost within its turn, which is no silence", async () => {
    const up = setUp();
    const lost = up.send();
    up.send().reply.resolve("reply");
    await settle();
    await up.runtime.advance(deadlineMs);
    expect(lost.result.error).toBeInstanceOf(RedisFault);
    expect(up.link.state).toBe("ready");
  });

  it("is remembered though replies come after their deadline", async () => {
    const up = setUp();
    const first = await up.fallSilent();
    const second = up.link.deliver(up.send().command, Infinity);
    second.catch(() => undefined);
    await up.runtime.advance(900);
    first.reply.resolve("reply");
    await settle();
    expect(up.link.state).toBe("ready");
    const third = up.send();
    await up.runtime.advance(500);
    expect(third.result.isSettled).toBe(false);
  });
});

describe("a deadline", () => {
  it("is kept to the millisecond, and the usual lateness of many timers does not add up", async () => {
    const runtime = new ManualRuntime();
    const real = runtime.startTimer.bind(runtime);
    runtime.startTimer = (delayMs, ref, run) => real(delayMs + 20, ref, run);
    const link = new RedisLink(new SilentClient("ready") as unknown as RedisClient, timeoutMs, runtime);
    const result = outcomeOf(link.send(never));
    await runtime.advance(timeoutMs + 40);
    expect(result.error).toBeInstanceOf(RedisFault);
  });
});

describe("the state", () => {
  it("is told from outside, as it is now", async () => {
    const { runtime, client, link, fallSilent } = setUp("connecting");
    expect(link.state).toBe("ready");
    await fallSilent();
    expect(link.state).toBe("silent");
    client.become("ready");
    expect(link.state).toBe("ready");
    client.become("reconnecting");
    expect(link.state).toBe("lost");
    client.status = "ready"; // The event comes a moment later.
    expect(link.state).toBe("ready");
    await fallSilent();
    expect(link.state).toBe("silent");
    client.become("close");
    expect(link.state).toBe("lost");
    client.become("ready");
    expect(link.state).toBe("ready");
    await runtime.advance(0);
  });

  it("of a client that never connected tells why, without a listener that would hide it from the application", async () => {
    const { client, runtime, link } = setUp("connecting");
    const refused = new Error("connect ECONNREFUSED 127.0.0.1:1");
    Object.assign(client, { connector: { firstError: refused } });
    const sent = outcomeOf(link.send(never));
    expect(client.eventNames()).toEqual([]);
    await runtime.advance(deadlineMs);
    const shown = (sent.error as RedisFault).toError("key");
    expect(shown).toBeInstanceOf(RedisUnavailableError);
    expect(shown.message).toBe(
      'The client could not connect to Redis within redisTimeout (1 s): connect ECONNREFUSED 127.0.0.1:1; key "key"',
    );
    expect(shown.cause).toBe(refused);
    client.become("ready");
    const later = outcomeOf(link.send(never));
    await runtime.advance(deadlineMs);
    expect((later.error as Error).message).toContain("did not answer");
  });
});

describe("an own connection that fails", () => {
  it("passes, and says nothing of the client, whose commands go on", async () => {
    const { link, isOpen } = setUp();
    const closed = new Error("Connection is closed.");
    const fault = await link
      .send(() => Promise.reject(new OwnConnectionError(closed)))
      .catch((thrown: unknown) => thrown);
    expect(fault).toBeInstanceOf(RedisFault);
    const shown = (fault as RedisFault).toError("key");
    expect(shown).toBeInstanceOf(RedisUnavailableError);
    expect(shown.cause).toBe(closed);
    expect(shown.message).toContain("connection of cachefence's own");
    expect(isOpen()).toBe(true);
  });
});

describe("the client", () => {
  const outages: [string, (up: ReturnType<typeof setUp>) => Promise<unknown>, (client: SilentClient) => void][] = [
    ["a silence", ({ fallSilent }) => fallSilent(), () => undefined],
    [
      "a lost connection",
      async ({ client, isOpen }) => {
        client.become("reconnecting");
        isOpen();
      },
      (client) => client.become("reconnecting"),
    ],
  ];

  it.each(outages)("has one listener of ours during %s, and none after it", async (_, begin) => {
    const up = setUp();
    expect(up.client.listenerCount("ready")).toBe(0);
    for (let outage = 1; outage <= 3; outage++) {
      await begin(up);
      for (let call = 0; call < 10; call++) up.isOpen();
      expect(up.client.listenerCount("ready")).toBe(1);
      up.client.become("ready");
      expect(up.client.eventNames()).toEqual([]);
      expect(up.onRecovery).toHaveBeenCalledTimes(outage);
    }
  });

  it.each(outages)("has none left when the link is closed during %s", async (_, begin) => {
    const up = setUp();
    await begin(up);
    up.link.close();
    expect(up.client.eventNames()).toEqual([]);
  });

  it("has none when it was closed by its owner: it does not come back", () => {
    const { client, isOpen } = setUp();
    client.become("end");
    expect(isOpen()).toBe(false);
    expect(client.eventNames()).toEqual([]);
  });
});

describe("a command that must not be left undone", () => {
  const noReplicas = () => Promise.reject(new Error("NOREPLICAS Not enough good replicas to write."));

  it("is answered like any other while Redis is there, and then never sent again", async () => {
    const { runtime, link } = setUp();
    const command = vi.fn(async () => "reply");
    expect(await link.deliver(command, Infinity)).toBe("reply");
    expect(runtime.refs).toBe(0);
    await runtime.advance(60_000);
    expect(command).toHaveBeenCalledTimes(1);
  });

  it("is handed over during an outage too, which its sender is told of at once", async () => {
    const { client, link } = setUp();
    client.become("reconnecting");
    const command = vi.fn(async () => "reply");
    await expect(link.deliver(command, Infinity)).rejects.toThrow("lost its connection");
    expect(command).toHaveBeenCalledTimes(1);
  });

  it.each([
    "NOREPLICAS Not enough good replicas to write.",
    "MISCONF Redis is configured to save RDB snapshots",
    "READONLY You can't write against a read only replica.",
    "BUSY Redis is busy running a script",
    "LOADING Redis is loading the dataset in memory",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "Connection is closed.",
  ])("is sent again every 100 ms until Redis takes it: %s", async (message) => {
    const { runtime, link } = setUp(undefined);
    const command = vi.fn(() => Promise.reject(new Error(message)));
    await expect(link.deliver(command, Infinity)).rejects.toBeInstanceOf(RedisFault);
    await runtime.advance(350);
    expect(command).toHaveBeenCalledTimes(4);
    command.mockImplementation(async () => undefined as never);
    await runtime.advance(100);
    expect(command).toHaveBeenCalledTimes(5);
    await runtime.advance(60_000);
    expect(command).toHaveBeenCalledTimes(5);
    expect(runtime.delaysMs).toEqual([]);
  });

  it("is sent again after it was put into the application's transaction, which may be discarded", async () => {
    const { runtime, link } = setUp();
    const command = vi.fn(async () => "QUEUED");
    await expect(link.deliver(command, Infinity)).rejects.toBeInstanceOf(RedisFault);
    command.mockImplementation(async () => "reply");
    await runtime.advance(60_000);
    expect(command).toHaveBeenCalledTimes(2);
  });

  it.each(["WRONGTYPE Operation against a key", "NOPERM No permissions to access a key"])(
    "is not sent again where the key itself stands against it: %s",
    async (message) => {
      const { runtime, link } = setUp();
      const command = vi.fn(() => Promise.reject(new Error(message)));
      await expect(link.deliver(command, Infinity)).rejects.toThrow(message);
      await runtime.advance(60_000);
      expect(command).toHaveBeenCalledTimes(1);
    },
  );

  it("is given up in the end, and leaves no timer", async () => {
    const { runtime, link } = setUp();
    const command = vi.fn(noReplicas);
    await expect(link.deliver(command, 1_000)).rejects.toBeInstanceOf(RedisFault);
    await runtime.advance(60_000);
    expect(command).toHaveBeenCalledTimes(10);
    expect(runtime.delaysMs).toEqual([]);
  });

  it("is never attempted twice at once: the next attempt waits until the client has done with the last", async () => {
    const { runtime, link } = setUp();
    const reply = deferred<string>();
    const command = vi.fn(() => reply.promise);
    const result = outcomeOf(link.deliver(command, Infinity));
    await runtime.advance(60_000);
    expect(result.error).toBeInstanceOf(RedisFault);
    expect(command).toHaveBeenCalledTimes(1); // It may still run.
    reply.reject(new Error("Reached the max retries per request limit"));
    await settle();
    await runtime.advance(100);
    expect(command).toHaveBeenCalledTimes(2);
  });

  it("is one of many that a read-only server refuses: a few try for all, and all follow the first", async () => {
    const { runtime, link } = setUp();
    const commands = Array.from({ length: 1_000 }, () => vi.fn(noReplicas as () => Promise<string>));
    await Promise.allSettled(commands.map((command) => link.deliver(command, Infinity)));
    const sent = () => commands.reduce((sum, { mock }) => sum + mock.calls.length, 0);
    await runtime.advance(1_000);
    expect(sent()).toBe(1_000 + 100);
    for (const command of commands) command.mockImplementation(async () => "reply");
    await runtime.advance(100);
    expect(sent()).toBe(1_000 + 100 + 1_000);
    expect(runtime.refs).toBe(0);
  });
});

describe("a closed link", () => {
  it("still ends the wait for what was sent before and after", async () => {
    const { runtime, link, send } = setUp();
    const before = send();
    link.close();
    const after = send();
    await runtime.advance(deadlineMs);
    expect(before.result.error).toBeInstanceOf(RedisFault);
    expect(after.result.error).toBeInstanceOf(RedisFault);
  });
});

describe("a process that was stopped, or whose event loop was blocked", () => {
  it("counts none of that time against a reply, which it reads only afterwards", async () => {
    const { runtime, send, isOpen } = setUp();
    const { reply, result } = send();
    await runtime.advance(200);
    runtime.monotonicNowMs += 60_000;
    await runtime.advance(0); // The timers that are due fire before the sockets are read.
    expect(result.isSettled).toBe(false);
    reply.resolve("reply");
    await settle();
    expect(result.value).toBe("reply");
    expect(isOpen()).toBe(true);
  });

  it("gives what it has sent before the rest of its deadline, and no more", async () => {
    const { runtime, send } = setUp();
    const { result } = send();
    await runtime.advance(400);
    runtime.monotonicNowMs += 60_000;
    await runtime.advance(450);
    expect(result.isSettled).toBe(false);
    await runtime.advance(250);
    expect(result.error).toBeInstanceOf(RedisFault);
  });

  it("gives what it sends after it, before the next look, one deadline and not the lost time on top", async () => {
    const { runtime, send } = setUp();
    send();
    await settle();
    runtime.monotonicNowMs += 60_000;
    const after = send(); // Say, by a timer that fires before the link's own.
    await runtime.advance(timeoutMs - 1);
    expect(after.result.isSettled).toBe(false);
    await runtime.advance(200);
    expect(after.result.error).toBeInstanceOf(RedisFault);
  });
});
