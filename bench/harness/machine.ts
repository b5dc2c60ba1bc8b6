import { execFileSync } from "node:child_process";
import { cpus, release, totalmem, type } from "node:os";

/** What the numbers were measured on. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly system: string;
  readonly node: string;
  readonly redis: string;
}

export function describeMachine(): Machine {
  const version = execFileSync("redis-server", ["--version"], { encoding: "utf8" });
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    // Of the kernel only what its maintainers number, not what a distribution or a host adds.
    system: `${type()} ${/^\d+\.\d+/.exec(release())?.[0] ?? ""}`,
    node: process.version,
    redis: /v=(\S+)/.exec(version)?.[1] ?? "unknown",
  };
}
