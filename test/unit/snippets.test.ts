import { join } from "node:path";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { blocks, documents, examples, root } from "../support/documents.js";

// What coming-from.md shows cannot run here, for it is the code of other libraries, which are not installed: it is held
// against this, and was tried by hand in the versions that the page names. All other snippets are code of an example.
const context = `
import type { CacheFence as Cache } from "cachefence";
import type { Redis as Client } from "ioredis";

declare global {
  interface User { readonly id: number; readonly name: string }
  interface Token { readonly secret: string; readonly expiresIn: number }
  const redis: Client;
  const cache: Cache;
  const CacheFence: typeof Cache;
  const id: number;
  function loadUser(id: number): Promise<User>;
  function fetchToken(): Promise<Token>;
  const randomUUID: () => string;
  const sleep: (ms: number) => Promise<void>;
  const COMPARE_AND_DELETE: string;

  interface Made<T> { setOptions(options: { ttl?: number }): void }
  class BentoCache {
    constructor(options: object);
    getOrSet<T>(options: { key: string; ttl?: string; factory: (made: Made<T>) => Promise<T> }): Promise<T>;
    delete(options: { key: string }): Promise<boolean>;
  }
  const bentostore: any, redisDriver: any;
  const redisCacheAdapter: any, nodeRedis: any;
  function cachified<T>(options: {
    cache: unknown; key: string; ttl?: number; getFreshValue: (context: { metadata: { ttl?: number } }) => Promise<T>;
  }): Promise<T>;
  const createCache: any, Keyv: any, KeyvRedis: any;
  class Cacheable {
    constructor(options: object);
    wrap<A extends unknown[], R>(
      loader: (...args: A) => R, options: { ttl?: string; createKey?: (loader: unknown, args: A) => string },
    ): (...args: A) => R;
    delete(key: string): Promise<boolean>;
    getOrSet<T>(key: string, loader: () => Promise<T>, options: { ttl: string }): Promise<T | undefined>;
  }
  const createKeyv: any;
  class LeaseCache {
    constructor(options: object);
    get<T>(key: string, load: () => Promise<T>): Promise<T>;
    invalidate(key: string): Promise<unknown>;
  }
  const connection: unknown;
}
`;

interface Snippet {
  readonly document: string;
  readonly code: string;
  readonly file: string;
}

const elsewhere = "docs/coming-from.md";
const snippets: readonly Snippet[] = documents.flatMap((document) =>
  blocks(document, "ts").map((code, index) => ({ document, code, file: join(root, `${document}.${index + 1}.ts`) })),
);

/** What the compiler has against each file, with the settings of the sources. */
function complaints(files: ReadonlyMap<string, string>): Map<string, string[]> {
  const config = ts.readConfigFile(join(root, "tsconfig.json"), (path) => ts.sys.readFile(path)).config as object;
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const host = ts.createCompilerHost(options);
  const onDisk = { ...host };
  host.readFile = (path) => files.get(path) ?? onDisk.readFile(path);
  host.fileExists = (path) => files.has(path) || onDisk.fileExists(path);
  host.getSourceFile = (path, version, ...rest) => {
    const text = files.get(path);
    if (text === undefined) return onDisk.getSourceFile(path, version, ...rest);
    return ts.createSourceFile(path, text, version, true);
  };
  const program = ts.createProgram([...files.keys()], options, host);
  return new Map(
    [...files.keys()].map((path) => {
      const file = program.getSourceFile(path);
      const found = [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)];
      return [path, found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"))];
    }),
  );
}

describe("The snippets in TypeScript", () => {
  const sources = examples();
  it.each(snippets.filter(({ document }) => document !== elsewhere))(
    "are code of an example, which the tests run: $document, $code",
    ({ code }) => {
      expect(sources.some((source) => `\n${source}`.includes(`\n${code}\n`))).toBe(true);
    },
  );

  const comparisons = snippets.filter(({ document }) => document === elsewhere);
  const contextFile = join(root, "docs/context.ts");
  const found = complaints(
    new Map([[contextFile, context], ...comparisons.map(({ file, code }) => [file, `${code}\nexport {};\n`] as const)]),
  );

  it("of other libraries have a context that compiles", () => {
    expect(found.get(contextFile)).toEqual([]);
  });

  it.each(comparisons)("compile beside those of other libraries: $code", ({ file }) => {
    expect(found.get(file)).toEqual([]);
  });

  it("are marked as such, so that none passes unseen", () => {
    const others = documents.flatMap((document) =>
      ["js", "javascript", "typescript"].flatMap((name) => blocks(document, name)),
    );
    expect(others).toEqual([]);
  });
});
