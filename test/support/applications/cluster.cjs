const cluster = require("node:cluster");
const { once } = require("node:events");
const { CacheFence } = require("cachefence");
const { Redis } = require("ioredis");
const { direct, play } = require("./play.cjs");

const [, , url, namespace] = process.argv;
if (cluster.isPrimary) {
  const start = (role) => cluster.fork({ ROLE: role });
  const end = async (worker) => {
    const exit = once(worker, "exit");
    worker.process.kill("SIGKILL");
    await exit;
  };
  void direct({ Redis, url, namespace, start, end }).then((played) => console.log(JSON.stringify(played)));
} else {
  // The channel to the primary keeps a worker alive.
  void play({ CacheFence, Redis, url, namespace, role: process.env.ROLE }).then(() => process.disconnect());
}
