import { Client, Policy } from "@hapi/catbox";
import { Engine } from "@hapi/catbox-redis";
import type { Contender } from "../contender.js";
import { connect } from "./connect.js";
import { installedVersion } from "./installed-version.js";

const SEGMENT = "bench";
const GENERATE_TIMEOUT_MS = 30_000;

interface Query {
  readonly id: string;
  readonly recompute: () => Promise<unknown>;
}

export const catbox: Contender = {
  module: import.meta.url,
  name: "catbox",
  version: installedVersion("@hapi/catbox"),
  configuration:
    `Policy over @hapi/catbox-redis ${installedVersion("@hapi/catbox-redis")} with an ioredis client; ` +
    `generateTimeout ${GENERATE_TIMEOUT_MS / 1000} s; no staleIn; one policy per ttl`,
  async open(url) {
    const redis = await connect(url);
    const client = new Client<unknown>(new Engine({ client: redis }) as never);
    await client.start();
    const policies = new Map<number, Policy<unknown, never>>();
    const policyFor = (ttlSeconds: number): Policy<unknown, never> => {
      const known = policies.get(ttlSeconds);
      if (known) return known;
      const policy = new Policy<unknown, never>(
        {
          expiresIn: ttlSeconds * 1000,
          generateTimeout: GENERATE_TIMEOUT_MS,
          generateFunc: (query: Query) => query.recompute(),
        } as never,
        client,
        SEGMENT,
      );
      policies.set(ttlSeconds, policy);
      return policy;
    };
    return {
      get: <T>(key: string, ttlSeconds: number, recompute: () => Promise<T>) =>
        policyFor(ttlSeconds).get({ id: key, recompute } as Query) as Promise<T>,
      invalidate: async (key) => void (await client.drop({ segment: SEGMENT, id: key })),
      async close() {
        await client.stop();
        redis.disconnect();
      },
    };
  },
};
