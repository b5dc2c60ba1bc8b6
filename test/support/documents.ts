import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** What a reader may open, by its path in the repository. */
export const documents = ["README.md", ...readdirSync(join(root, "docs")).map((name) => `docs/${name}`)].filter(
  (name) => name.endsWith(".md"),
);

export function textOf(document: string): string {
  return readFileSync(join(root, document), "utf8");
}

/** The code blocks of one language in a document, without their fences. */
export function blocks(document: string, language: string): string[] {
  return [...textOf(document).matchAll(/^```(\w+)\n(.*?)^```$/gms)]
    .filter(([, found]) => found === language)
    .map(([, , code]) => code!.trimEnd());
}

/** The sources under `examples/`. */
export function examples(): string[] {
  return readdirSync(join(root, "examples"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => textOf(`examples/${name}`));
}
