import { Redis } from "ioredis";
import { Worker, isMainThread, workerData } from "node:worker_threads";
import { direct, play } from "./play.cjs";
import { CacheFence } from "cachefence";

if (isMainThread) {
  const [, , url, namespace] = process.argv;
  const start = (role) => new Worker(new URL(import.meta.url), { workerData: { url, namespace, role } });
  const end = (worker) => worker.terminate();
  console.log(JSON.stringify(await direct({ Redis, url, namespace, start, end })));
} else {
  await play({ CacheFence, Redis, ...workerData });
}
