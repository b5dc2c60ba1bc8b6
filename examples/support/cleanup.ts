type Step = () => unknown;

/** What the demo must undo, whether it ends well, fails or is interrupted: last made, first undone. */
export class Cleanup {
  readonly #steps: Step[] = [];
  #run: Promise<void> | undefined;

  /** Made during an interrupt, a thing is undone at once: the steps may be over already. */
  defer(step: Step): void {
    if (this.#run === undefined) this.#steps.push(step);
    else void attempt(step);
  }

  get hasBegun(): boolean {
    return this.#run !== undefined;
  }

  /** May be called again: it is done once. Never rejects. */
  run(): Promise<void> {
    this.#run ??= this.#undoAll();
    return this.#run;
  }

  async #undoAll(): Promise<void> {
    for (const step of this.#steps.reverse()) await attempt(step);
  }
}

// One step that fails must not keep the others from being taken.
async function attempt(step: Step): Promise<void> {
  try {
    await step();
  } catch (error) {
    console.error(`Clean-up: ${error instanceof Error ? error.message : String(error)}`);
  }
}
