import { Database, type User } from "./database.js";
import { open } from "./setting.js";

const { redis, cache } = open("lists");
const db = new Database();

function usersById(ids: readonly number[]): Promise<Map<number, User | undefined>> {
  return cache.getOrSetMany(
    ids,
    (id) => `user:${id}`,
    (user: User | undefined) => (user ? 60 : 5),
    async (missing, { signal }) => {
      // One query for all that are neither cached nor being loaded by somebody else: WHERE id = ANY($1)
      const rows = await db.users(missing, signal);
      return new Map(rows.map((user) => [user.id, user])); // in any order; an id that is not in it is undefined
    },
  );
}

console.log(await usersById([1, 404, 2]));
console.log([...(await usersById([3, 2, 1])).keys()], `${db.queries} queries`);
redis.disconnect();
