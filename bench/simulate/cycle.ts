/** What one life of an entry brought: from its store to the store of the next. */
export interface Cycle {
  readonly seconds: number;
  readonly recomputes: number;
  /** First refresh before expiry; 0 if there was none. */
  readonly refreshedEarlySeconds: number;
  /** No refresh had started when the entry expired. */
  readonly isUnrefreshed: boolean;
  /** Some request found no value that it could be served: expired, past any `staleFor`. */
  readonly isHardMiss: boolean;
  readonly staleServes: number;
  /** Processes that waited for another's rebuild, and requests: those that joined their process included. */
  readonly waitingProcesses: number;
  readonly waitingRequests: number;
  readonly lostClaims: number;
  readonly takeovers: number;
  /** Beyond the one read of each request that was served without a rebuild of its own or a wait of its process. */
  readonly commands: number;
  readonly messages: number;
}
