// pg-boss: batches, four local workers, burst and LISTEN, which it keeps off unless asked.
import { PgBoss } from "pg-boss";
import { chunks, ran, run, seconds, singles, stopped, trickle } from "./common.mjs";

const boss = async (url, options = {}) => {
  const made = new PgBoss({ connectionString: url, ...options });
  made.on("error", console.error);
  await made.start();
  return made;
};
const client = (url, max = 2) => boss(url, { max, supervise: false, schedule: false, migrate: false });

run({
  make: async (url) => {
    const made = await boss(url);
    await made.createQueue("noop", { notify: true });
    await made.stop();
  },
  work: async (url, batchSize, localConcurrency) => {
    const made = await boss(url, { useListenNotify: true, max: 10 });
    const options = { batchSize, localConcurrency, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 };
    await made.work("noop", options, async (jobs) => jobs.forEach((job) => ran(job.data?.at)));
    await stopped();
    await made.stop({ graceful: false });
  },
  bulk: async (url, many) => {
    const made = await client(url);
    await seconds(async () => {
      for (const size of chunks(many, 1000)) await made.insert("noop", Array.from({ length: size }, () => ({})));
    });
  },
  singles: async (url, many, clients) => {
    const made = await client(url, clients);
    await singles(() => made.send("noop"), many, clients);
  },
  trickle: async (url, many) => {
    const made = await client(url);
    await trickle((at) => made.send("noop", { at }), many);
  },
});
