import { constants } from "node:os";
import { performance } from "node:perf_hooks";
import { actOne } from "./stampede-demo/act-1-one-process.js";
import { actTwo } from "./stampede-demo/act-2-fleet.js";
import { actThree } from "./stampede-demo/act-3-hot-key.js";
import { actFour } from "./stampede-demo/act-4-memory.js";
import { explainNoFleet, explainNoMemory, tellHowToGoOn } from "./stampede-demo/words.js";
import { Cleanup } from "./support/cleanup.js";
import { connectCounting } from "./stampede-demo/counting-client.js";
import { type DemoOptions, helpText, parseFlags, UsageError } from "./stampede-demo/flags.js";
import { Output } from "./stampede-demo/output.js";
import { OwnKeys } from "./stampede-demo/own-keys.js";
import { chooseServer } from "./stampede-demo/server-choice.js";

// `npm run demo`: what a cache stampede is, and what is left of it with cachefence. `npm run demo -- --help` lists flags.

async function perform(options: DemoOptions, cleanup: Cleanup): Promise<void> {
  const beganMs = performance.now();
  const output = new Output(process.stdout);
  output.line("cachefence: cache-aside for Redis without the stampede");
  output.line();
  const server = await chooseServer(cleanup);
  output.paragraph(`Redis: ${server.description}.`);
  if (!process.env.REDIS_URL) output.paragraph("To take another: REDIS_URL=redis://host:6379 npm run demo");

  // Before anything is promised: a server that cannot be reached ends the demo here.
  (await connectCounting(server)).redis.disconnect();

  const keys = new OwnKeys();
  if (server.kind === "server" && server.isShared) cleanup.defer(() => keys.removeFrom(server));
  const stage = { server, options, keys, cleanup, output };

  output.line();
  await actOne(stage);
  output.line();
  if (server.kind === "server") await actTwo({ ...stage, server });
  else explainNoFleet(output);
  output.line();
  await actThree(stage);
  output.line();
  if (server.kind === "server") await actFour({ ...stage, server });
  else explainNoMemory(output);

  await cleanup.run();
  output.line();
  output.paragraph(
    `That took ${Math.round((performance.now() - beganMs) / 1000)} s; the keys of the demo are removed.`,
  );
  output.line();
  tellHowToGoOn(output);
}

const cleanup = new Cleanup();

async function quit(exitCode: number): Promise<void> {
  await cleanup.run();
  process.exit(exitCode);
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    if (!cleanup.hasBegun) console.error("\nInterrupted: cleaning up.");
    void quit(128 + constants.signals[signal]);
  });
}
// Whoever reads the output has stopped reading (`| head`).
process.stdout.on("error", () => void quit(1));

try {
  const options = parseFlags(process.argv.slice(2));
  if (options === "help") console.log(helpText);
  else await perform(options, cleanup);
} catch (error) {
  if (error instanceof UsageError) {
    console.error(`${error.message}\nTry --help.`);
    process.exitCode = 2;
  } else if (!cleanup.hasBegun) {
    // After an interrupt, an error only says that the connection under the demo is gone.
    console.error(error instanceof Error ? error.message : error);
    await quit(1);
  }
}
