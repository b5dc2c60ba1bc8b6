import { Database, type User } from "./database.js";
import { open } from "./setting.js";

const { redis, cache } = open("unknown-ids");
const db = new Database();

function findUser(id: number): Promise<User | null> {
  return cache.getOrSet(
    `user:${id}`,
    (user: User | null) => (user ? 60 : 5), // "there is none" is kept for 5 seconds
    () => db.user(id),
    { staleFor: (user) => (user ? 300 : 0) }, // and not a moment longer
  );
}

console.log(await findUser(404), await findUser(404), await findUser(1));
console.log(`${db.queries} queries, kept for ${Math.round((await cache.peek("user:404"))!.remaining)} s`);
redis.disconnect();
