import type { OpenCache } from "../contender.js";
import { fill } from "./fill.js";
import { readHits } from "./read-hits.js";
import { stampede } from "./stampede.js";

/** What a worker process can be asked to do with its contender. */
const jobs = { fill, readHits, stampede };

type Jobs = typeof jobs;
export type JobName = keyof Jobs;
export type JobInput<Name extends JobName> = Parameters<Jobs[Name]>[1];
export type JobOutput<Name extends JobName> = Awaited<ReturnType<Jobs[Name]>>;

export function runJob(name: JobName, cache: OpenCache, input: unknown): Promise<unknown> {
  return (jobs[name] as (cache: OpenCache, input: unknown) => Promise<unknown>)(cache, input);
}
