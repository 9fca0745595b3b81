// graphile-worker: with a local queue and batched completion where `work` is given more than ten at once.
import { makeWorkerUtils, run as start, Logger } from "graphile-worker";
import { chunks, ran, run, seconds, singles, stopped, trickle } from "./common.mjs";

const logger = new Logger(() => () => {});
const utils = (url, size = 1) => makeWorkerUtils({ connectionString: url, maxPoolSize: size, logger });

run({
  make: async (url) => (await utils(url)).migrate(),
  work: async (url, concurrency, queue) => {
    const runner = await start({
      connectionString: url, logger, noHandleSignals: true, concurrency, maxPoolSize: concurrency + 2,
      preset: queue ? { worker: { localQueue: { size: queue }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } } : {},
      taskList: { noop: async (payload) => ran(payload?.at) },
    });
    await stopped();
    await runner.stop();
  },
  bulk: async (url, many) => {
    const made = await utils(url);
    await seconds(async () => {
      for (const size of chunks(many, 1000))
        await made.addJobs(Array.from({ length: size }, () => ({ identifier: "noop", payload: {} })));
    });
  },
  singles: async (url, many, clients) => {
    const made = await utils(url, clients);
    await singles(() => made.addJob("noop", {}), many, clients);
  },
  trickle: async (url, many) => {
    const made = await utils(url);
    await trickle((at) => made.addJob("noop", { at }), many);
  },
});
