// Google's `@google/genai`: interactions (whole, streamed, kept, gone on from, in the background) and files.

import assert from "node:assert/strict";
import { test } from "node:test";
import { GoogleGenAI } from "@google/genai";
import { rejection } from "./clients.mjs";
import { KEYED_URL, URL_, checkPicture } from "./common.mjs";

const make = (baseUrl, apiKey = "any-key") =>
  new GoogleGenAI({ apiKey, vertexai: false, httpOptions: { baseUrl, retryOptions: { attempts: 1 } } });
const client = make(URL_);
const tools = [{ type: "code_execution" }];
const ROOT = { model: "openai/gpt-oss-20b", input: "What is the square root of 101? Use code.", tools };
const WEATHER = {
  type: "function",
  name: "get_weather",
  description: "The weather in a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const CSV = "city,people\nRome,3\n";

// The steps of a stream, as a client puts them together.
async function gather(stream) {
  const steps = [];
  let interaction;
  for await (const event of stream) {
    if (event.event_type === "step.start") {
      steps[event.index] = { type: event.step.type, id: event.step.id, text: "", images: [], arguments: "" };
    }
    if (event.event_type === "step.delta") take(steps[event.index], event.delta);
    if (event.event_type === "interaction.completed") interaction = event.interaction;
  }
  return { steps, interaction };
}

function take(step, delta) {
  if (delta.type === "text") step.text += delta.text;
  if (delta.type === "code_execution_call") step.text += delta.arguments.code;
  if (delta.type === "code_execution_result") step.text += delta.result;
  if (delta.type === "image") step.images.push(delta.data);
  if (delta.type === "arguments_delta") step.arguments += delta.arguments;
}

function simplify(interaction) {
  const steps = interaction.steps.map((step) => {
    const contents = Array.isArray(step.result) ? step.result : (step.content ?? []);
    const words = contents.filter(({ type }) => type === "text").map(({ text }) => text);
    const images = contents.filter(({ type }) => type === "image").map(({ data }) => data);
    const text = typeof step.result === "string" ? step.result : (step.arguments?.code ?? words.join(""));
    return { type: step.type, id: step.id, text, images, arguments: JSON.stringify(step.arguments) };
  });
  return { steps, interaction };
}

const ways = {
  whole: async (request) => simplify(await client.interactions.create(request)),
  stream: async (request) => gather(await client.interactions.create({ ...request, stream: true })),
};

for (const [way, ask] of Object.entries(ways)) {
  test(`one execution, ${way}`, async () => {
    const { steps, interaction } = await ask(ROOT);
    assert.deepEqual(steps.map(({ type }) => type), ["code_execution_call", "code_execution_result", "model_output"]);
    assert.match(steps[0].text, /math\.sqrt\(101\)/);
    assert.match(steps[1].text, /10\.04987562112089/);
    assert.match(steps[2].text, /10\.04987562112089/);
    assert.equal(interaction.status, "completed");
    assert.ok(interaction.usage.total_tokens > interaction.usage.total_tool_use_tokens);
  });

  test(`plot, ${way}`, async () => {
    const { steps } = await ask({ model: "test/plot", input: "Plot.", tools });
    checkPicture(steps.find(({ type }) => type === "code_execution_result").images[0]);
  });

  test(`own function, and its result sent back, ${way}`, async () => {
    const request = { model: "test/mixes", input: "Compute, then ask.", tools: [...tools, WEATHER] };
    const first = await ask(request);
    assert.equal(first.interaction.status, "requires_action");
    const call = first.steps.at(-1);
    assert.deepEqual(JSON.parse(call.arguments), { city: "Tokyo" });
    const input = [{ type: "function_result", call_id: call.id, name: "get_weather", result: "sunny" }];
    const second = await ask({ ...request, input, previous_interaction_id: first.interaction.id });
    assert.equal(second.steps.at(-1).text, "computed 42, weather sunny");
  });
}

test("kept, gone on from, deleted", async () => {
  const first = await client.interactions.create(ROOT);
  const next = { model: "test/echo", input: "And now?", previous_interaction_id: first.id };
  const second = await client.interactions.create(next);
  const { messages } = JSON.parse(simplify(second).steps.at(-1).text);
  assert.deepEqual(messages.map(({ role }) => role), ["user", "assistant", "user", "assistant", "user"]);
  assert.deepEqual((await client.interactions.get(first.id)).steps, first.steps);
  const again = await gather(await client.interactions.get(first.id, { stream: true }));
  assert.deepEqual(again.steps.map(({ text }) => text), simplify(first).steps.map(({ text }) => text));
  await client.interactions.delete(first.id);
  assert.equal((await rejection(client.interactions.get(first.id))).status, 404);
});

test("in the background, and cancelled", async () => {
  let seen = await client.interactions.create({ ...ROOT, background: true });
  assert.equal(seen.status, "in_progress");
  while (seen.status === "in_progress") seen = await client.interactions.get(seen.id);
  assert.equal(seen.status, "completed");
  const endless = await client.interactions.create({ model: "test/spin", input: "Spin.", tools, background: true });
  assert.equal((await client.interactions.cancel(endless.id)).status, "cancelled");
});

test("errors", async () => {
  const unknown = await rejection(client.interactions.create({ model: "no/such-model", input: "x" }));
  assert.equal(unknown.status, 404);
  assert.match(unknown.message, /no model/);
  const wrong = await rejection(make(KEYED_URL, "wrong").interactions.create({ model: "test/thinks", input: "x" }));
  assert.equal(wrong.status, 401);
});

test("files: uploaded, listed, used, deleted", async () => {
  const config = { mimeType: "text/csv", displayName: "people.csv" };
  const file = await client.files.upload({ file: new Blob([CSV]), config });
  assert.equal(file.state, "ACTIVE");
  assert.equal(Number(file.sizeBytes), CSV.length);
  assert.equal((await client.files.get({ name: file.name })).uri, file.uri);
  const names = [];
  for await (const listed of await client.files.list({ config: { pageSize: 1 } })) names.push(listed.name);
  assert.ok(names.includes(file.name));
  const code = { type: "text", text: "```python\nprint(open('people.csv').read(), end='')\n```" };
  const document = { type: "document", uri: file.uri, mime_type: "text/csv" };
  const { steps } = await ways.whole({ model: "belljar/verbatim", input: [document, code], tools });
  assert.equal(steps[1].text, CSV);
  await client.files.delete({ name: file.name });
  assert.equal((await rejection(client.files.get({ name: file.name }))).status, 403);
});
