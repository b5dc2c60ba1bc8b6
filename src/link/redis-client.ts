/**
 * What cachefence asks of a client: the few commands it uses, in the shape in which ioredis 5 and 6 (`Redis` and
 * `Cluster`), ioredis-mock and iovalkey all have them. Structural, because the classes of two majors do not fit each other.
 */
export interface RedisClient {
  readonly isCluster?: boolean | undefined;
  /** Of a Cluster: slot -> its nodes, "host:port", the master first. */
  readonly slots?: readonly (readonly string[])[] | undefined;
  /** Absent in ioredis-mock, whose connection never fails. */
  readonly status?: string | undefined;
  /** The connection's socket. Of a Cluster there is none, of ioredis-mock neither. */
  readonly stream?: { cork?(): void; uncork?(): void } | undefined;
  readonly options?: { readonly keyPrefix?: string | undefined } | undefined;
  hmgetBuffer(key: string, ...fields: string[]): Promise<(Buffer | null)[]>;
  set(key: string, value: string, px: "PX", leaseMs: number, nx: "NX"): Promise<"OK" | null>;
  get(key: string): Promise<string | null>;
  /** A number, or a string of one with the client's `stringNumbers`. */
  pttl(key: string): Promise<unknown>;
  type(key: string): Promise<string>;
  time(): Promise<unknown>;
  zadd(key: string, score: number, member: string): Promise<unknown>;
  zrem(key: string, ...members: string[]): Promise<unknown>;
  /** Not in every client's types. */
  pubsub?(subcommand: "NUMSUB", channel: string): Promise<unknown>;
  publish(channel: string, message: string | Buffer): Promise<unknown>;
  eval(script: string, keyCount: number, ...keysAndArguments: (string | Buffer)[]): Promise<unknown>;
  evalsha(sha1: string, keyCount: number, ...keysAndArguments: (string | Buffer)[]): Promise<unknown>;
  /** The next two exist at run time in all of them, and in the types of none. */
  evalBuffer?(script: string, keyCount: number, ...keysAndArguments: (string | Buffer)[]): Promise<unknown>;
  evalshaBuffer?(sha1: string, keyCount: number, ...keysAndArguments: (string | Buffer)[]): Promise<unknown>;
  pexpire(key: string, ms: number): Promise<unknown>;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- each event has arguments of its own
  on(event: string, listener: (...args: any[]) => void): unknown;
  once(event: string, listener: () => void): unknown;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- as above
  off(event: string, listener: (...args: any[]) => void): unknown;
}

export const REQUIRED_COMMANDS = [
  "hmgetBuffer",
  "set",
  "get",
  "pttl",
  "type",
  "time",
  "zadd",
  "zrem",
  "publish",
  "pexpire",
  "eval",
  "evalsha",
  "on",
  "once",
  "off",
] as const satisfies readonly (keyof RedisClient)[];
