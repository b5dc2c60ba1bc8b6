import { open } from "./setting.js";

const { redis, cache } = open("per-user");

interface Session {
  readonly userId: string;
}

let queries = 0;
const db = {
  ordersOf: async (userId: string, status: string) => (queries++, [`${status} order of ${userId}`]),
};

/** All that the value depends on is in the key; each part is encoded, so that no two lists of parts are one key. */
const privateKey = (...parts: string[]) => `private:${parts.map(encodeURIComponent).join(":")}`;

/** The user is that of the verified session, never one that the request names. */
function ordersOf({ userId }: Session, status: string): Promise<string[]> {
  return cache.getOrSet(privateKey("orders", userId, status), 30, () => db.ordersOf(userId, status), {
    tags: [privateKey("user", userId)],
  });
}

/** After a deletion, a change of rights, or a log-out. */
const forget = ({ userId }: Session) => cache.invalidateTags(privateKey("user", userId));

console.log(await ordersOf({ userId: "ada" }, "open:late"), await ordersOf({ userId: "ada:open" }, "late"));
await forget({ userId: "ada" });
await ordersOf({ userId: "ada" }, "open:late");
await ordersOf({ userId: "ada:open" }, "late");
console.log(`${queries} queries`);
redis.disconnect();
