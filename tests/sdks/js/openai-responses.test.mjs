// openai, unchanged: the Responses API, with what stands beside it (containers, files, conversations).

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, { toFile } from "openai";
import { rejection } from "./clients.mjs";
import { IMPATIENT_URL, KEYED_URL, URL_, checkPicture } from "./common.mjs";

const make = (url, options) => new OpenAI({ apiKey: "any-key", baseURL: `${url}/v1`, maxRetries: 0, ...options });
const client = make(URL_);
const include = ["code_interpreter_call.outputs"];
const tools = [{ type: "code_interpreter", container: { type: "auto" } }];
const ROOT = { model: "openai/gpt-oss-20b", input: "What is the square root of 101? Use code.", tools, include };
const VERBATIM = { model: "belljar/verbatim", tools, include };
const python = (code) => `\`\`\`python\n${code}\n\`\`\``;
const weather = {
  type: "function",
  name: "get_weather",
  description: "The weather in a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false },
  strict: true,
};

const items = (answer, kind) => answer.output.filter(({ type }) => type === kind);
const outputs = (answer) => items(answer, "code_interpreter_call").flatMap((call) => call.outputs ?? []);
const logs = (answer) => outputs(answer).filter(({ type }) => type === "logs").map((output) => output.logs).join("");

// A stream's response, when its events have added up to it.
async function gather(stream) {
  let count = 0;
  let answer;
  const text = [];
  const code = new Map();
  const done = [];
  for await (const event of stream) {
    assert.equal(event.sequence_number, count++);
    if (event.type === "response.output_text.delta") text.push(event.delta);
    if (event.type === "response.code_interpreter_call_code.delta") {
      code.set(event.item_id, (code.get(event.item_id) ?? "") + event.delta);
    }
    if (event.type === "response.output_item.done") done[event.output_index] = event.item;
    if (event.response) answer = event.response;
  }
  assert.deepEqual(answer.output, done);
  const said = items(answer, "message").flatMap(({ content }) => content.map((part) => part.text));
  assert.equal(said.join(""), text.join(""));
  for (const call of items(answer, "code_interpreter_call")) assert.equal(code.get(call.id), call.code);
  return { ...answer, output_text: said.join("") };
}

const ways = {
  whole: (request) => client.responses.create(request),
  stream: async (request) => gather(await client.responses.create({ ...request, stream: true })),
  helper: async (request) => client.responses.stream(request).finalResponse(),
};

for (const [way, ask] of Object.entries(ways)) {
  test(`one execution, ${way}`, async () => {
    const answer = await ask(ROOT);
    assert.deepEqual(answer.output.map(({ type }) => type), ["reasoning", "code_interpreter_call", "message"]);
    assert.equal(logs(answer), "The square root of 101 is: \n10.04987562112089\n");
    assert.match(answer.output_text, /10\.04987562112089/);
    assert.match(items(answer, "code_interpreter_call")[0].container_id, /^cntr_[0-9a-f]+$/);
    assert.equal(answer.status, "completed");
    assert.ok(answer.usage.total_tokens > 0);
  });

  test(`a plot, and its file, ${way}`, async () => {
    const answer = await ask({ model: "test/plot", input: "Plot.", tools, include });
    const { url } = outputs(answer).find(({ type }) => type === "image");
    assert.ok(url.startsWith("data:image/png;base64,"));
    checkPicture(url.split(",")[1]);
    const [cited] = items(answer, "message")[0].content[0].annotations;
    const content = await client.containers.files.content.retrieve(cited.file_id, { container_id: cited.container_id });
    checkPicture(Buffer.from(await content.arrayBuffer()).toString("base64"));
  });

  test(`a file that the answer names, ${way}`, async () => {
    const answer = await ask({ model: "test/leaves", input: "Squares.", tools });
    const [cited] = items(answer, "message")[0].content[0].annotations;
    assert.equal(cited.filename, "squares.csv");
    const content = await client.containers.files.content.retrieve(cited.file_id, { container_id: cited.container_id });
    assert.equal(await content.text(), "1\n4\n9\n");
  });

  test(`a function of the client's own, in the same container, ${way}`, async () => {
    const asked = { model: "test/keeps", tools: [...tools, weather], include };
    const first = await ask({ ...asked, input: "Compute, ask, compute." });
    const [call] = items(first, "function_call");
    assert.deepEqual(JSON.parse(call.arguments), { city: "Tokyo" });
    const result = { type: "function_call_output", call_id: call.call_id, output: "sunny" };
    const second = await ask({ ...asked, input: [result], previous_response_id: first.id });
    assert.equal(second.output_text, "kept 42");
    assert.equal(logs(second), "42\n");
  });

  test(`a custom tool, ${way}`, async () => {
    const asked = { model: "test/queries", tools: [{ type: "custom", name: "query" }] };
    const first = await ask({ ...asked, input: "Look it up." });
    const [call] = items(first, "custom_tool_call");
    assert.equal(call.input, `SELECT 'a\\b'\nFROM "t"`);
    const result = { type: "custom_tool_call_output", call_id: call.call_id, output: "none" };
    const second = await ask({ ...asked, input: [result], previous_response_id: first.id });
    assert.equal(second.output_text, "rows none");
  });
}

test("the helper's events", async () => {
  const stream = client.responses.stream(ROOT);
  let text = "";
  stream.on("response.output_text.delta", ({ delta, snapshot }) => {
    text += delta;
    assert.equal(snapshot, text);
  });
  assert.equal((await stream.finalResponse()).output_text, text);
});

test("kept, gone on from, deleted", async () => {
  const first = await client.responses.create(ROOT);
  assert.deepEqual((await client.responses.retrieve(first.id, { include })).output, first.output);
  const listed = [];
  for await (const item of client.responses.inputItems.list(first.id)) listed.push(item.content[0].text);
  assert.deepEqual(listed, [ROOT.input]);
  const second = await client.responses.create({ model: "test/echo", input: "And?", previous_response_id: first.id });
  assert.match(second.output_text, /10\.04987562112089/);
  await client.responses.delete(first.id);
  assert.equal((await rejection(client.responses.retrieve(first.id))).status, 404);
});

test("in the background", async () => {
  const seen = [];
  const stream = await client.responses.create({ ...ROOT, background: true, stream: true });
  for await (const event of stream) {
    seen.push(event);
    if (event.type === "response.output_item.added") break;
  }
  const { id } = seen[0].response;
  const { sequence_number } = seen.at(-1);
  const rest = await client.responses.retrieve(id, { stream: true, starting_after: sequence_number, include });
  for await (const event of rest) seen.push(event);
  assert.deepEqual(seen.map((event) => event.sequence_number), [...seen.keys()]);
  assert.match((await client.responses.retrieve(id)).output_text, /10\.04987562112089/);
  const spinning = await client.responses.create({ model: "test/spin", input: "Spin.", tools, background: true });
  assert.equal((await client.responses.cancel(spinning.id)).status, "cancelled");
});

test("a conversation", async () => {
  const talk = await client.conversations.create({ items: [{ role: "user", content: "Hello." }] });
  await client.responses.create({ ...VERBATIM, input: python("kept = 41"), conversation: talk.id });
  const second = await client.responses.create({ ...VERBATIM, input: python("print(kept + 1)"), conversation: talk.id });
  assert.equal(logs(second), "42\n");
  const kinds = [];
  for await (const item of client.conversations.items.list(talk.id, { order: "asc", limit: 2 })) kinds.push(item.type);
  assert.deepEqual(kinds.slice(0, 3), ["message", "message", "code_interpreter_call"]);
  await client.conversations.delete(talk.id);
  assert.equal((await rejection(client.conversations.retrieve(talk.id))).status, 404);
});

test("containers and files", async () => {
  const file = await client.files.create({ file: await toFile(Buffer.from("1,2\n"), "n.csv"), purpose: "user_data" });
  assert.equal(await (await client.files.content(file.id)).text(), "1,2\n");
  const box = await client.containers.create({ name: "mine", file_ids: [file.id] });
  const given = await client.containers.files.create(box.id, { file: await toFile(Buffer.from("42"), "x.txt") });
  assert.equal(given.path, "/mnt/data/x.txt");
  const code = python("import os\nprint(open('x.txt').read(), *sorted(os.listdir('.')))");
  const run = (container) =>
    client.responses.create({ ...VERBATIM, tools: [{ type: "code_interpreter", container }], input: code });
  assert.equal(logs(await run(box.id)), `42 ${file.id}-n.csv x.txt\n`);
  const paths = [];
  for await (const one of client.containers.files.list(box.id, { limit: 1 })) paths.push(one.path);
  assert.deepEqual(paths.sort(), [`/mnt/data/${file.id}-n.csv`, "/mnt/data/x.txt"]);
  await client.containers.files.delete(given.id, { container_id: box.id });
  const boxes = [];
  for await (const one of client.containers.list()) boxes.push(one.id);
  assert.ok(boxes.includes(box.id));
  await client.containers.delete(box.id);
  assert.equal((await rejection(run(box.id))).status, 404);
  await client.files.delete(file.id);
  assert.equal((await rejection(client.files.retrieve(file.id))).status, 404);
});

test("parsed by a schema", async () => {
  const schema = { type: "object", properties: { answer: { type: "integer" } } };
  const text = { format: { type: "json_schema", name: "answer", schema } };
  const answer = await client.responses.parse({ model: "test/json", input: "Answer.", text });
  assert.deepEqual(answer.output_parsed, { answer: 42 });
});

test("heartbeats", async () => {
  const slow = { ...VERBATIM, input: python("import time\ntime.sleep(0.2)\nprint('awake')") };
  assert.equal(logs(await make(IMPATIENT_URL).responses.create(slow)), "awake\n");
  assert.equal(logs(await gather(await make(IMPATIENT_URL).responses.create({ ...slow, stream: true }))), "awake\n");
});

const failures = [
  ["unknown model", { model: "no/such-model" }, OpenAI.NotFoundError, "model_not_found"],
  ["unknown tool", { tools: [{ type: "teleport" }] }, OpenAI.BadRequestError, undefined],
  ["unknown response", { previous_response_id: "resp_none" }, OpenAI.BadRequestError, "previous_response_not_found"],
  ["unknown container", { tools: [{ type: "code_interpreter", container: "cntr_none" }] }, OpenAI.NotFoundError, undefined],
  ["the upstream: too many requests", { model: "test/status-429" }, OpenAI.RateLimitError, undefined],
  ["the upstream: down", { model: "test/status-503" }, OpenAI.InternalServerError, undefined],
];
for (const [name, fields, type, code] of failures) {
  test(`error: ${name}`, async () => {
    for (const stream of [false, true]) {
      const error = await rejection(client.responses.create({ model: "test/thinks", input: "x", ...fields, stream }));
      assert.ok(error instanceof type, `${error.constructor.name}: ${error.message}`);
      assert.ok(error.error.message && error.error.type);
      if (code !== undefined) assert.equal(error.code, code);
    }
  });
}

test("error: a wrong key", async () => {
  const wrong = make(KEYED_URL, { apiKey: "wrong" });
  const error = await rejection(wrong.responses.create({ model: "test/thinks", input: "x" }));
  assert.ok(error instanceof OpenAI.AuthenticationError);
});

test("an error in mid-stream", async () => {
  const stream = await client.responses.create({ model: "test/breaks", input: "x", stream: true });
  const last = [];
  for await (const event of stream) last[0] = event;
  assert.equal(last[0].type, "response.failed");
  assert.match(last[0].response.error.message, /upstream/);
});
