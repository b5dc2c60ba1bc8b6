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

  /** Serves commands that arrive together; must be called in the order of arrival. Returns when the last is done. */
  serve(arriveSeconds: number, commands: number): number {
    this.#commands += commands;
    return this.#work(arriveSeconds, commands / PRIMARY_COMMANDS_PER_SECOND);
  }

  /** Runs the store script and hands its message to every subscriber, one after the other. */
  storeAndPublish(
    arriveSeconds: number,
    subscribers: number,
  ): { readonly storedSeconds: number; messageSeconds: number } {
    this.#commands++;
    this.#messages += subscribers;
    const storedSeconds = this.#work(arriveSeconds, STORE_SCRIPT_WEIGHT / PRIMARY_COMMANDS_PER_SECOND);
    const messageSeconds = 1 / PRIMARY_MESSAGES_PER_SECOND;
    this.#work(storedSeconds, subscribers * messageSeconds);
    return { storedSeconds, messageSeconds };
  }

  #work(arriveSeconds: number, seconds: number): number {
    this.#busySeconds += seconds;
    this.#freeSeconds = Math.max(this.#freeSeconds, arriveSeconds) + seconds;
    return this.#freeSeconds;
  }
}
