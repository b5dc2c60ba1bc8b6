import { readFileSync } from "node:fs";
import { benchFolder } from "../harness/folders.js";

/** The version of an installed package. Read from the file, because not every package exports its package.json. */
export function installedVersion(packageName: string): string {
  const file = new URL(`node_modules/${packageName}/package.json`, benchFolder);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
