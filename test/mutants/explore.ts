import { firstViolation } from "../explore/explorer.js";

// Of a copy of the tree that has been broken: how many schedules it takes to notice. Prints one line of JSON.
const [schedules, seed] = process.argv.slice(2).map(Number);
console.log(JSON.stringify((await firstViolation({ schedules: schedules!, seed: seed! })) ?? null));
