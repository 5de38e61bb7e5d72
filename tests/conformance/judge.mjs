// Asks every case through one JavaScript SDK: node judge.mjs FOLDER SDK, with BELLJAR_URL set, and on standard input
// {"tasks": [{"question", "streams"}], "leave": question}. Prints what was seen, one line of JSON a task (seen.py says
// which fields). Then it leaves an answer twice, in mid-stream and without a stream.
//
// FOLDER/adapter.mjs exports `sdks`: name -> (require, url) => { ask(question, streams) => seen, leave(question, streams) }.
// The SDKs are those of tests/sdks/js: `require` finds them there.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const AT_ONCE = 4; // questions
const [folder, name] = process.argv.slice(2);
const require = createRequire(new URL("../sdks/js/package.json", import.meta.url));
const { sdks } = await import(`./${folder}/adapter.mjs`);
const sdk = await sdks[name](require, process.env.BELLJAR_URL);
const { tasks, leave } = JSON.parse(readFileSync(0, "utf8"));

const seen = new Array(tasks.length);
let next = 0;
async function work() {
  while (next < tasks.length) {
    const place = next++;
    seen[place] = await sdk.ask(tasks[place].question, tasks[place].streams);
  }
}
await Promise.all(Array.from({ length: AT_ONCE }, work));
for (const one of seen) console.log(JSON.stringify(one));
for (const streams of [false, true]) await sdk.leave(leave, streams);
