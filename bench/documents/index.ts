import { readFile, writeFile } from "node:fs/promises";
import { repositoryFolder } from "../harness/folders.js";
import { latestRun } from "../harness/results.js";
import { drawPictures } from "../pictures/index.js";
import { scenarios } from "../scenarios/index.js";
import { describeContenders, describeMachines } from "./describe-runs.js";
import { fillSlots } from "./fill-slots.js";
import { markdownSection } from "./markdown-table.js";

const page = new URL("docs/benchmarks.md", repositoryFolder);

/** Writes the tables of docs/benchmarks.md and draws its pictures, from the stored runs alone. */
export async function writeDocuments(): Promise<void> {
  const runs = await Promise.all(scenarios.map(({ name }) => latestRun(name)));
  const sections = scenarios.map(
    ({ name, tables }, i) => [name, tables(runs[i]!.outcome).map(markdownSection).join("\n\n")] as const,
  );
  const contents = new Map([
    ["machine", describeMachines(runs)],
    ["contenders", describeContenders(runs)],
    ...sections,
  ]);
  await writeFile(page, fillSlots(await readFile(page, "utf8"), contents));
  await drawPictures(new URL("docs/pictures/", repositoryFolder));
}
