import type { OpenCache } from "../contender.js";
import { beginRebuild } from "./begin-rebuild.js";
import { fill } from "./fill.js";
import { outage } from "./outage.js";
import { pausedReads } from "./paused-reads.js";
import { readHits } from "./read-hits.js";
import { stampede } from "./stampede.js";
import { storm } from "./storm.js";

/** What a worker process can be asked to do with its contender. */
const jobs = { beginRebuild, fill, outage, pausedReads, readHits, stampede, storm };

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
