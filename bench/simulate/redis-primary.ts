import { PRIMARY_COMMANDS_PER_SECOND, PRIMARY_MESSAGES_PER_SECOND, STORE_SCRIPT_WEIGHT } from "./cost-model.js";

/** One Redis primary: a single core that serves what arrives in the order of arrival. */
export class RedisPrimary {
  #freeSeconds = 0;
  #busySeconds = 0;
  #commands = 0;
  #messages = 0;

  get busySeconds(): number {
    return this.#busySeconds;
  }

  get commands(): number {
    return this.#commands;
  }

  get messages(): number {
    return this.#messages;
  }

  /** Serves a command; must be called in the order of arrival. Returns when it is done. */
  serve(arriveSeconds: number, weight = 1): number {
    this.#commands++;
    return this.#work(arriveSeconds, weight / PRIMARY_COMMANDS_PER_SECOND);
  }

  /** Runs the store script and hands its message to everybody in the audience, one after the other. */
  storeAndPublish(arriveSeconds: number, waiters: number): { readonly storedSeconds: number; messageSeconds: number } {
    this.#commands++;
    this.#messages += waiters;
    const storedSeconds = this.#work(arriveSeconds, STORE_SCRIPT_WEIGHT / PRIMARY_COMMANDS_PER_SECOND);
    const messageSeconds = 1 / PRIMARY_MESSAGES_PER_SECOND;
    this.#work(storedSeconds, waiters * messageSeconds);
    return { storedSeconds, messageSeconds };
  }

  #work(arriveSeconds: number, seconds: number): number {
    this.#busySeconds += seconds;
    this.#freeSeconds = Math.max(this.#freeSeconds, arriveSeconds) + seconds;
    return this.#freeSeconds;
  }
}
