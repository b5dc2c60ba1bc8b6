import { open } from "./setting.js";

const { redis, cache } = open("token");

interface Token {
  readonly secret: string;
  readonly expiresAt: number;
}

let logins = 0;
const logIn = async (): Promise<Token> => ({ secret: `secret ${++logins}`, expiresAt: Date.now() + 600_000 });

const secondsLeft = (token: Token) => Math.max(0, (token.expiresAt - Date.now()) / 1000);

/**
 * Fresh for four fifths of its life; for a tenth more it still serves while a new log-in fails; the last tenth is for
 * requests that are under way with it.
 */
function accessToken(): Promise<Token> {
  return cache.getOrSet("access-token", (token: Token) => secondsLeft(token) * 0.8, logIn, {
    staleFor: (token) => secondsLeft(token) * 0.1,
    earlyRefresh: "background",
  });
}

console.log((await accessToken()).secret, (await accessToken()).secret);
const { remaining } = (await cache.peek("access-token"))!;
console.log(`of 600 s: fresh for ${Math.round(remaining)} s`);
redis.disconnect();
