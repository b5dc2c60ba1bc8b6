import { waitersOf } from "./audience.js";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { removeKeys, uniquePrefix } from "./describe-redis.js";
import { majors } from "./ioredis.js";
import { Service, Source } from "./service.js";
import type { ServiceOptions } from "./service-messages.js";

/** What the recomputes of a fleet counted in Redis. */
export interface Counts {
  readonly starts: number;
  readonly ends: number;
  /** The highest number at once. */
  readonly most: number;
}

/**
 * Several services on one server. Their processes outlive a test, for starting one takes a second; each test opens them
 * anew, with its own options, under a prefix of its own. One that was killed is replaced at the next opening.
 */
export class Fleet {
  readonly source = new Source();
  readonly redis: Redis;
  readonly #url: string;
  #services: Service[] = [];
  #prefix = "";
  #options: ServiceOptions = {};

  constructor(url: string) {
    this.#url = url;
    this.redis = new Redis(url);
  }

  get prefix(): string {
    return this.#prefix;
  }

  /** The client name of every connection of the fleet's caches. */
  get connectionName(): string {
    return this.#prefix;
  }

  /**
   * Services in as many processes, by default with the majors of ioredis in turn. `redisTimeout` is long unless given: a
   * busy machine is not what these tests are about.
   */
  async open(count: number, options: ServiceOptions = {}): Promise<readonly Service[]> {
    this.#prefix = uniquePrefix();
    this.#options = options;
    this.source.clear();
    this.#services = this.#services.filter((service) => service.isRunning);
    const missing = Math.max(0, count - this.#services.length);
    const started = Array.from({ length: missing }, () => Service.start(this.source));
    this.#services.push(...(await Promise.all(started)));
    const services = this.#services.slice(0, count);
    await Promise.all(services.map((service, index) => this.#open(service, index)));
    return services;
  }

  /** All services, those that were killed replaced. */
  async revive(): Promise<readonly Service[]> {
    for (const [index, { isRunning }] of this.#services.entries()) {
      if (isRunning) continue;
      const service = await Service.start(this.source);
      this.#services[index] = service;
      await this.#open(service, index);
    }
    return [...this.#services];
  }

  async #open(service: Service, index: number): Promise<void> {
    service.forgetSnag();
    await service.ask("open", {
      plan: {
        url: this.#url,
        major: majors[index % majors.length]!.name,
        options: { redisTimeout: 20, namespace: this.#prefix, ...this.#options },
        counter: this.#prefix + "counter",
        connectionName: this.connectionName,
      },
    });
  }

  async counts(): Promise<Counts> {
    const counted = await this.redis.hgetall(this.#prefix + "counter");
    const { starts = 0, ends = 0, most = 0 } = counted;
    return { starts: Number(starts), ends: Number(ends), most: Number(most) };
  }

  /** Counts the recompute of a killed service as over. */
  async bury(): Promise<void> {
    await this.redis.hincrby(this.#prefix + "counter", "now", -1);
  }

  async stored(key: string): Promise<unknown> {
    const value = await this.redis.hget(this.#prefix + key, "v");
    return value === null ? undefined : JSON.parse(value);
  }

  lockOf(key: string): Promise<string | null> {
    return this.redis.get(`${this.#prefix}${key}:lock`);
  }

  /** Resolves when as many services wait for the key's wake-up. */
  async untilWaiting(key: string, services: number): Promise<void> {
    await until(async () => {
      const count = await waitersOf(this.redis, `${this.#prefix}${key}`);
      return count === services;
    });
  }

  /** After a test: nothing was left unhandled, and its keys go. */
  async checkAndClear(): Promise<void> {
    const unhandled = this.#services.flatMap((service) => service.unhandled);
    if (unhandled.length > 0) throw new Error(`Unhandled rejections in the fleet:\n${unhandled.join("\n")}`);
    await removeKeys(this.redis, this.#prefix);
  }

  async close(): Promise<void> {
    await Promise.all(this.#services.map((service) => service.kill()));
    this.redis.disconnect();
  }
}

/** Looks until it is so; the test's own timeout is the limit. */
export async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(5);
}
