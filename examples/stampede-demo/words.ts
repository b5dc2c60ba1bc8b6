import { WAYS_TO_REDIS } from "../support/real-server.js";
import type { Output } from "./output.js";

/** In place of the fleet. */
export function explainNoFleet(output: Output): void {
  output.line("Act 2: a fleet (left out)");
  output.paragraph(
    "A Redis in memory lives inside this one process, so other processes cannot share it. " +
      "Get a server, and run the demo again:",
  );
  for (const way of WAYS_TO_REDIS) output.line(`  ${way}`);
}

export function explainNoMemory(output: Output): void {
  output.line("Act 4: memory (left out)");
  output.paragraph("It takes two processes, and so a server, as act 2 does.");
}

export function tellHowToGoOn(output: Output): void {
  output.line("How to go on");
  const ways = [
    ["README.md", "the twenty lines that put this into your service"],
    ["examples/shop.ts", "a whole API: lists, tags, unknown ids, headers"],
    ["npm run example:http", "the stampede in your browser, over PostgreSQL"],
    ["docs/guarantees.md", "what is promised, and on which conditions"],
    ["npm run demo -- --help", "the demo with more callers, or a slower query"],
  ] as const;
  for (const [where, what] of ways) output.line(`  ${where.padEnd(24)}${what}`);
}
