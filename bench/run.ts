import { Redis } from "ioredis";
import { USAGE, isNarrowed, matches, readCommandLine } from "./command-line.js";
import { writeDocuments } from "./documents/index.js";
import { machineMs } from "./harness/clock.js";
import { describeMachine } from "./harness/machine.js";
import { clearProgress, showStep } from "./harness/progress.js";
import { RedisServer } from "./harness/redis-server.js";
import { writeRun } from "./harness/results.js";
import { printTable } from "./harness/table.js";
import type { Scenario } from "./scenario.js";
import { scenarios } from "./scenarios/index.js";

const commandLine = readCommandLine(process.argv.slice(2));
if (commandLine.help) {
  console.log(USAGE);
  for (const { name, summary } of scenarios) console.log(`  ${name.padEnd(20)}  ${summary}`);
} else {
  const server = await RedisServer.start();
  // An interrupted run leaves no server behind.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
  try {
    for (const scenario of chosenScenarios()) await runScenario(scenario, server.url);
    if (isFullRun()) await writeDocuments();
  } finally {
    await server.stop();
  }
}

function chosenScenarios(): readonly Scenario[] {
  const { scenarios: names } = commandLine;
  const unknown = names.filter((name) => !scenarios.some((scenario) => scenario.name === name));
  if (unknown.length > 0) {
    throw new Error(
      `No scenario is named ${unknown.join(", ")}; there are ${scenarios.map(({ name }) => name).join(", ")}`,
    );
  }
  return names.length === 0 ? scenarios : scenarios.filter(({ name }) => names.includes(name));
}

/** Only then do all the numbers on the page come from one run. */
function isFullRun(): boolean {
  return commandLine.scenarios.length === 0 && !commandLine.short && !isNarrowed(commandLine);
}

async function runScenario(scenario: Scenario, url: string): Promise<void> {
  const { short, rounds } = commandLine;
  const contenders = scenario.contenders.filter(({ name }) => matches(name, commandLine.contenders));
  const startedAt = new Date().toISOString();
  const startedAtMs = machineMs();
  showStep(`${scenario.name}: ${scenario.summary}`);
  const outcome = await scenario.run({
    url,
    short,
    rounds,
    contenders,
    includesCase: (name) => matches(name, commandLine.cases),
  });
  clearProgress();
  for (const table of scenario.tables(outcome)) printTable(table);
  console.log("\nConfigurations");
  for (const { name, version, configuration } of contenders) console.log(`  ${name} (${version}): ${configuration}`);
  const durationSeconds = (machineMs() - startedAtMs) / 1000;
  showStep(`\n${scenario.name} took ${durationSeconds.toFixed(0)} s\n`);
  if (!isNarrowed(commandLine)) {
    await writeRun({
      scenario: scenario.name,
      command: ["npm run bench --", scenario.name, ...(short ? ["--short"] : [])].join(" "),
      short,
      startedAt,
      durationSeconds,
      machine: describeMachine(),
      contenders: contenders.map(({ name, version, configuration }) => ({ name, version, configuration })),
      outcome,
    });
  }
  await emptyServer(url);
}

/** The next scenario starts on an empty server; it is this run's own. */
async function emptyServer(url: string): Promise<void> {
  const redis = new Redis(url);
  await redis.flushall();
  redis.disconnect();
}
