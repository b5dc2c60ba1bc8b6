import type { Contender } from "./contender.js";
import type { Table } from "./harness/table.js";

/** One question put to all contenders. */
export interface Scenario<Outcome = unknown> {
  readonly name: string;
  /** One line for `--help` and the progress. */
  readonly summary: string;
  readonly contenders: readonly Contender[];
  run(context: RunContext): Promise<Outcome>;
  /** The tables are made from the outcome alone, so that they can be made again from the stored JSON. */
  tables(outcome: Outcome): Table[];
}

export interface RunContext {
  /** A real Redis server that nobody else uses. */
  readonly url: string;
  readonly short: boolean;
  /** Of the scenario's contenders, those that the command line left in. */
  readonly contenders: readonly Contender[];
  /** Overrides the scenario's own number of rounds. */
  readonly rounds: number | undefined;
  /** Whether the command line left this case in. */
  includesCase(name: string): boolean;
}
