import js from "@eslint/js";
import { defineConfig, globalIgnores } from "eslint/config";
import tseslint from "typescript-eslint";

export default defineConfig(
  globalIgnores(["dist/", "coverage/", "bench/", "docs/"]),
  js.configs.recommended,
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      // Of an element that a test just before has found there.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unused-vars": [
        "error",
        { argsIgnorePattern: "^_", caughtErrorsIgnorePattern: "^_", varsIgnorePattern: "^_" },
      ],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
    },
  },
  // The rooms of src, and who may enter which: imports point one way.
  ...Object.entries({
    call: ["link", "look", "memory", "protocol", "rebuild"],
    link: ["call", "look", "memory", "protocol", "rebuild"],
    protocol: ["call", "look", "memory", "rebuild"],
    memory: ["call", "look", "rebuild"],
    rebuild: ["look", "memory"],
    look: ["rebuild"],
  }).map(([room, others]) => ({
    files: [`src/${room}/**`],
    rules: {
      "no-restricted-imports": ["error", { patterns: others.map((other) => ({ group: [`../${other}/*`] })) }],
    },
  })),
  {
    // Only the front door knows the whole house.
    files: ["src/*/**"],
    rules: {
      "no-restricted-syntax": [
        "error",
        {
          selector: "ImportDeclaration[source.value=/cache-fence/]",
          message: "Nothing inside imports the front door.",
        },
      ],
    },
  },
  {
    // A recompute is often `async () => value`.
    files: ["test/**", "examples/**"],
    rules: {
      "@typescript-eslint/require-await": "off",
    },
  },
  {
    files: ["**/*.{js,mjs,cjs}"],
    extends: [tseslint.configs.disableTypeChecked],
  },
  {
    // Programs as users write them, without a compiler.
    files: ["test/support/applications/**"],
    languageOptions: {
      globals: Object.fromEntries(
        ["console", "exports", "process", "require", "setTimeout", "URL"].map((name) => [name, "readonly"]),
      ),
    },
    rules: {
      "@typescript-eslint/no-require-imports": "off",
    },
  },
);
