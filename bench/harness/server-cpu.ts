import { Redis } from "ioredis";

/** What the server has spent since it started, in microseconds. */
export interface ServerCpu {
  /** Inside commands, as INFO commandstats counts it. */
  readonly commandsUs: number;
  /** All its threads: commands, parsing, and moving bytes to and from the sockets. */
  readonly processUs: number;
}

/** Reads the server's own accounts of its CPU time. */
export class ServerCpuMeter {
  readonly #redis: Redis;

  constructor(url: string) {
    this.#redis = new Redis(url);
  }

  async read(): Promise<ServerCpu> {
    const [commandStats, cpu] = await Promise.all([this.#redis.info("commandstats"), this.#redis.info("cpu")]);
    const spentBy = [...commandStats.matchAll(/^cmdstat_(\S+?):calls=\d+,usec=(\d+)/gm)];
    const commandsUs = spentBy
      .filter(([, name]) => name !== "info")
      .reduce((sum, [, , microseconds]) => sum + Number(microseconds), 0);
    const processSeconds = fieldOf(cpu, "used_cpu_user") + fieldOf(cpu, "used_cpu_sys");
    return { commandsUs, processUs: processSeconds * 1e6 };
  }

  close(): void {
    this.#redis.disconnect();
  }
}

export function spentBetween(before: ServerCpu, after: ServerCpu): ServerCpu {
  return { commandsUs: after.commandsUs - before.commandsUs, processUs: after.processUs - before.processUs };
}

function fieldOf(info: string, field: string): number {
  const value = new RegExp(`^${field}:([\\d.]+)`, "m").exec(info)?.[1];
  if (value === undefined) throw new Error(`INFO does not tell ${field}`);
  return Number(value);
}
