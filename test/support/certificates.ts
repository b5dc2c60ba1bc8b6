import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { findOnPath } from "./redis-server.js";

/** PEM, with the files that hold it: one authority, and a key that it vouches for at 127.0.0.1, for both ends of a connection. */
export interface Certificates {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly files: { readonly ca: string; readonly cert: string; readonly key: string };
}

export const canMakeCertificates = (): boolean => findOnPath("openssl") !== undefined;

/** Makes them with openssl, good for a day. */
export function makeCertificates(directory: string): Certificates {
  mkdirSync(directory, { recursive: true });
  const files = { ca: join(directory, "ca.crt"), cert: join(directory, "own.crt"), key: join(directory, "own.key") };
  const caKey = join(directory, "ca.key");
  const openssl = (command: string) => {
    execFileSync("openssl", command.split(" "), { cwd: directory, stdio: ["ignore", "ignore", "pipe"] });
  };
  const elliptic = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
  openssl(`req -x509 ${elliptic} -days 1 -subj /CN=test-authority -keyout ${caKey} -out ${files.ca}`);
  openssl(`req ${elliptic} -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout ${files.key} -out own.csr`);
  openssl(
    `x509 -req -in own.csr -CA ${files.ca} -CAkey ${caKey} -CAcreateserial -days 1 -copy_extensions copy -out ${files.cert}`,
  );
  const [ca, cert, key] = [files.ca, files.cert, files.key].map((file) => readFileSync(file, "utf8"));
  return { ca: ca!, cert: cert!, key: key!, files };
}
