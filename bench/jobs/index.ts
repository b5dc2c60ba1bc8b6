import type { OpenCache } from "../contender.js";
import { beginRebuild } from "./begin-rebuild.js";
import { fill } from "./fill.js";
import { holdCopies } from "./hold-copies.js";
import { invalidate } from "./invalidate.js";
import { outage } from "./outage.js";
import { pausedReads } from "./paused-reads.js";
import { readHits } from "./read-hits.js";
import { readLists } from "./read-lists.js";
import { readTurns } from "./read-turns.js";
import { stampede } from "./stampede.js";
import { storm } from "./storm.js";
import { endWatch, watch } from "./watch.js";

/** What a worker process can be asked to do with its contender. */
const jobs = {
  beginRebuild,
  endWatch,
  fill,
  holdCopies,
  invalidate,
  outage,
  pausedReads,
  readHits,
  readLists,
  readTurns,
  stampede,
  storm,
  watch,
};

type Jobs = typeof jobs;
export type JobName = keyof Jobs;
export type JobInput<Name extends JobName> = Parameters<Jobs[Name]>[1];
export type JobOutput<Name extends JobName> = Awaited<ReturnType<Jobs[Name]>>;

type Job = (cache: OpenCache, input: unknown, openAnother: () => Promise<OpenCache>) => Promise<unknown>;

export function runJob(
  name: JobName,
  cache: OpenCache,
  input: unknown,
  openAnother: () => Promise<OpenCache>,
): Promise<unknown> {
  return (jobs[name] as Job)(cache, input, openAnother);
}
