import { setTimeout as sleep } from "node:timers/promises";
import { Mutex } from "redis-semaphore";
import type { Contender } from "../contender.js";
import { connect } from "./connect.js";
import { installedVersion } from "./installed-version.js";

const POLL_MS = 50;

/** A lock across processes as it is written by hand, with care: the entry is read again once the lock is held. */
export const lockAndPoll: Contender = {
  module: import.meta.url,
  name: "lock-and-poll",
  version: `redis-semaphore ${installedVersion("redis-semaphore")}`,
  configuration:
    `GET; on a miss try a redis-semaphore Mutex (10 s lease, renewed); holder reads again, recomputes, SET EX; ` +
    `the others read again every ${POLL_MS} ms`,
  async open(url) {
    const redis = await connect(url);
    const read = async <T>(key: string): Promise<{ value: T } | undefined> => {
      const stored = await redis.get(key);
      return stored === null ? undefined : { value: JSON.parse(stored) as T };
    };
    return {
      async get<T>(key: string, ttlSeconds: number, recompute: () => Promise<T>): Promise<T> {
        for (;;) {
          const found = await read<T>(key);
          if (found) return found.value;
          const mutex = new Mutex(redis, key, { lockTimeout: 10_000, acquireAttemptsLimit: 1, onLockLost: () => {} });
          if (await mutex.tryAcquire()) {
            try {
              const foundByNow = await read<T>(key);
              if (foundByNow) return foundByNow.value;
              const value = await recompute();
              await redis.set(key, JSON.stringify(value), "PX", Math.ceil(ttlSeconds * 1000));
              return value;
            } finally {
              await mutex.release();
            }
          }
          await sleep(POLL_MS);
        }
      },
      invalidate: async (key) => void (await redis.del(key)),
      close: async () => redis.disconnect(),
    };
  },
};
