/** One library, or one hand-written way, of caching in Redis. */
export interface Contender {
  /** `import.meta.url` of the module that exports it and nothing else, so that a worker process loads only this one. */
  readonly module: string;
  readonly name: string;
  /** As installed, so that the printed tables say what was measured. */
  readonly version: string;
  /** How it is set up, in words; printed with the results. */
  readonly configuration: string;
  /** What its documentation says of other processes once an invalidate has resolved, in a few words. */
  readonly promise?: string;
  open(url: string): Promise<OpenCache>;
}

/** A contender with its connections made. One per process; the steady load opens several to stand for processes. */
export interface OpenCache {
  get<T>(key: string, ttlSeconds: number, recompute: () => Promise<T>): Promise<T>;
  /** Where it reads a list in a way of its own: values in the order of the keys, `recompute` for all that miss at once. */
  getMany?<T>(
    keys: readonly string[],
    ttlSeconds: number,
    recompute: (missing: readonly string[]) => Promise<T[]>,
  ): Promise<T[]>;
  invalidate(key: string): Promise<void>;
  close(): Promise<void>;
}
