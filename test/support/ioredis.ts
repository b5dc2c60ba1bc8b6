import { Cluster, Redis } from "ioredis";
import { Cluster as Cluster6, Redis as Redis6 } from "ioredis6";

export interface IoredisMajor {
  readonly name: "5" | "6";
  readonly Redis: typeof Redis;
  readonly Cluster: typeof Cluster;
}

// Both majors go under the types of 5: a union of the two could not be constructed, and the tests use what both have.
const all: readonly IoredisMajor[] = [
  { name: "5", Redis, Cluster },
  { name: "6", Redis: Redis6 as unknown as typeof Redis, Cluster: Cluster6 as unknown as typeof Cluster },
];

const only = process.env.IOREDIS_MAJOR;

/** The ioredis majors to test against: both, or the one that `IOREDIS_MAJOR` names. */
export const majors: readonly IoredisMajor[] = only ? all.filter((major) => major.name === only) : all;

if (majors.length === 0) throw new Error(`Expected IOREDIS_MAJOR to be 5 or 6, got ${String(only)}`);
