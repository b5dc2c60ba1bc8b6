import { describe, expect, it } from "vitest";
import type { RedisLink } from "../../src/link/redis-link.js";
import type { Conversation } from "../../src/protocol/conversation.js";
import type { KeyNames } from "../../src/protocol/key-names.js";
import { HeldLock } from "../../src/protocol/rebuild-lock.js";
import type { RenewAnswer, Steps } from "../../src/protocol/steps.js";
import type { Token } from "../../src/protocol/token.js";
import { LONGEST_GROWING, firstToken, partOf } from "../../src/protocol/token.js";
import type { Runtime } from "../../src/runtime.js";
import { settle } from "../support/manual-runtime.js";

const MEMBER = "a".repeat(16);

describe("a lock that is held", () => {
  /** One whose renewals are answered so; with what they were asked, and the timers that are set. */
  function hold(token: Token, answer: RenewAnswer) {
    const renewals: { readonly token: Token; readonly grown: Token }[] = [];
    const timers = new Set<() => void>();
    const mailbox = { id: MEMBER, isLive: false, showsDeath: true };
    const runtime = {
      nonce: () => "1".repeat(12),
      startTimer: (_ms: number, _ref: boolean, run: () => void) => {
        timers.add(run);
        return () => timers.delete(run);
      },
    } as Partial<Runtime>;
    const steps: Partial<Steps> = {
      renew: (_names, of, grown) => {
        renewals.push({ token: of, grown });
        return Promise.resolve(answer);
      },
    };
    const lock = new HeldLock(
      { send: (command: () => Promise<unknown>) => command() } as unknown as RedisLink,
      steps as Steps,
      { mailbox, runtime } as unknown as Conversation,
      Object.create(null) as KeyNames,
      token,
      3000,
    );
    let losses = 0;
    lock.keep(
      () => 0,
      () => losses++,
    );
    return { lock, mailbox, renewals, timers, losses: () => losses };
  }
  const silent = firstToken(partOf("b".repeat(16), false, "2".repeat(12)));
  const live = partOf(MEMBER, true, "1".repeat(12));

  it("is renewed at once, with a token that says so, when its mailbox goes live, and once only", async () => {
    const { lock, mailbox, renewals, timers } = hold(silent, { kind: "done" });
    lock.showLife();
    expect(renewals).toEqual([]);
    mailbox.isLive = true;
    lock.showLife();
    lock.showLife();
    await settle();
    expect(renewals).toEqual([{ token: silent, grown: `${silent}:${live}` }]);
    expect(timers.size).toBe(1);
  });

  it("does not grow where it would no longer begin with the token that is stored under", () => {
    const long = `${silent}:${"x".repeat(LONGEST_GROWING)}:N${MEMBER}-0` as Token;
    const { lock, mailbox, renewals } = hold(long, { kind: "done" });
    mailbox.isLive = true;
    lock.showLife();
    expect(renewals).toEqual([]);
  });

  it.each([
    ["is not lost to itself: that is an older renewal, run behind", `${silent}:${live}`, 0],
    ["is renewed no longer once it is lost", `${silent}:L${"c".repeat(16)}-3`, 1],
  ])("%s", async (_, held, losses) => {
    const one = hold(silent, { kind: "taken", lock: held });
    one.mailbox.isLive = true;
    one.lock.showLife();
    await settle();
    expect(one.losses()).toBe(losses);
    expect(one.timers.size).toBe(1 - losses);
  });
});
