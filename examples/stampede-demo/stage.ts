import type { Cleanup } from "../support/cleanup.js";
import type { DemoOptions } from "./flags.js";
import type { Output } from "./output.js";
import type { OwnKeys } from "./own-keys.js";
import type { DemoServer } from "./server-choice.js";

/** What every act needs. */
export interface Stage<Server extends DemoServer = DemoServer> {
  readonly server: Server;
  readonly options: DemoOptions;
  readonly keys: OwnKeys;
  readonly cleanup: Cleanup;
  readonly output: Output;
}
