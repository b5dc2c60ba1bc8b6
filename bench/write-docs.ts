import { writeDocuments } from "./documents/index.js";

await writeDocuments();
console.log("docs/benchmarks.md and docs/pictures/ are as the stored runs have it");
