// The same verbs as common.py, for the engines of Node.
import { setTimeout as sleep } from "node:timers/promises";

let working = false;
export const ran = (at) => {
  if (at !== undefined) console.log(`late ${(performance.timeOrigin + performance.now()) / 1000 - at}`);
  else if (!working) {
    working = true;
    console.log("first");
  }
};
export const now = () => (performance.timeOrigin + performance.now()) / 1000;
export const seconds = async (work) => {
  const began = performance.now();
  await work();
  console.log(`seconds ${(performance.now() - began) / 1000}`);
};
export const singles = async (insert, many, clients) => {
  const client = async () => {
    for (let n = 0; n < Math.floor(many / clients); n++) await insert();
  };
  const all = () => Promise.all(Array.from({ length: clients }, client));
  await all();
  await seconds(all);
};
export const trickle = async (insert, many) => {
  for (let n = 0; n < many; n++) {
    await insert(now());
    await sleep(40);
  }
};
export const stopped = () => new Promise((stop) => process.on("SIGTERM", stop));
export const chunks = function* (many, size) {
  for (let start = 0; start < many; start += size) yield Math.min(size, many - start);
};
export const run = async (verbs) => {
  const [verb, url, ...numbers] = process.argv.slice(2);
  await verbs[verb](url, ...numbers.map(Number));
  process.exit(0);
};
