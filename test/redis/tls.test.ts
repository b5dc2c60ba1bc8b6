import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Redis, RedisOptions } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from "vitest";
import { type Certificates, canMakeCertificates, makeCertificates } from "../support/certificates.js";
import { majors } from "../support/ioredis.js";
import {
  addScriptlessUser,
  itKeepsItsPromises,
  pairOver,
  promises,
  scriptless,
} from "../support/keeps-its-promises.js";
import { findFreePort, type RedisServer, startRedis } from "../support/redis-server.js";

function reasonToSkip(): string | undefined {
  const binary = inject("redisBinary");
  if (binary === undefined) return "no redis-server to start";
  if (!canMakeCertificates()) return "no openssl to make certificates";
  // Either way it ends at once: with TLS because it has no certificate, without because there is no such thing.
  const { stdout, stderr } = spawnSync(binary, ["--port", "0", "--tls-port", "7"], {
    encoding: "utf8",
    timeout: 10_000,
  });
  return /Bad directive|Failed finding TLS support/i.test(stdout + stderr)
    ? `${binary} was built without TLS`
    : undefined;
}

const reason = reasonToSkip();

describe.skipIf(reason !== undefined)(
  `a client over TLS${reason === undefined ? "" : ` [NOT TESTED: ${reason}]`}`,
  () => {
    let directory: string;
    let certificates: Certificates;
    let server: RedisServer;
    let tlsPort: number;
    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), "cachefence-tls-"));
      certificates = makeCertificates(directory);
      tlsPort = await findFreePort();
      const { ca, cert, key } = certificates.files;
      const files = ["--tls-ca-cert-file", ca, "--tls-cert-file", cert, "--tls-key-file", key];
      // A connection without a certificate of its own is refused.
      server = await startRedis({ args: ["--tls-port", String(tlsPort), ...files, "--tls-auth-clients", "yes"] });
    });
    afterAll(async () => {
      await server.stop();
      rmSync(directory, { recursive: true, force: true });
    });

    describe.each(majors)("ioredis $name", (major) => {
      const clients: Redis[] = [];
      let admin: Redis;
      beforeAll(async () => {
        admin = new major.Redis(server.url);
        await addScriptlessUser(admin);
      });
      afterAll(() => {
        admin.disconnect();
      });
      afterEach(() => {
        for (const client of clients.splice(0)) client.disconnect();
      });
      const connect = (options: RedisOptions = {}): Redis => {
        const { ca, cert, key } = certificates;
        const client = new major.Redis({ host: server.host, port: tlsPort, tls: { ca, cert, key }, ...options });
        clients.push(client);
        return client;
      };

      itKeepsItsPromises(() => pairOver([connect(), connect()]));

      describe("where scripting is denied,", () => {
        itKeepsItsPromises(() => pairOver([connect(scriptless), connect(scriptless)], false));
      });

      it("has its mailbox and its connection for WATCH over TLS too", async () => {
        // Duplicates of a client have its name.
        const options = { ...scriptless, connectionName: `tls-${major.name}` };
        const pair = pairOver([connect(options), connect(options)], false);
        await promises["refuses the store of a rebuild that another process has fenced"]!(pair);
        const lines = String(await admin.client("LIST"))
          .trim()
          .split("\n");
        const all = lines.filter((line) => line.includes(` name=${options.connectionName} `));
        expect(all.length).toBe(6);
        expect(all.filter((line) => line.includes(" sub=1 ")).length).toBe(2);
        for (const line of all) expect(line).toContain(`laddr=127.0.0.1:${tlsPort} `);
      });
    });
  },
);
