// @ai-sdk/openai under `ai`, unchanged: its default, which is the Responses API.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, Output, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { joined, parts } from "./ai.mjs";
import { rejection } from "./clients.mjs";
import { IMPATIENT_URL, URL_, checkPicture } from "./common.mjs";

const provider = (url = URL_) => createOpenAI({ apiKey: "any-key", baseURL: `${url}/v1` });
const model = (id, url) => provider(url)(id);
const code = { code_interpreter: provider().tools.codeInterpreter({}) };
const thinking = { openai: { forceReasoning: true, reasoningSummary: "auto" } };
const python = (text) => `\`\`\`python\n${text}\n\`\`\``;
const get_weather = () =>
  tool({
    description: "The weather in a city",
    inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
    execute: async ({ city }) => `sunny in ${city}`,
  });
const logs = (result) => result.output.outputs.filter(({ type }) => type === "logs").map((one) => one.logs).join("");

test("code execution", async () => {
  const result = await generateText({ model: model("test/talks"), prompt: "Go on.", tools: code, maxRetries: 0 });
  const [call] = result.toolCalls;
  assert.equal(call.input.code, "6 * 7");
  assert.match(call.input.containerId, /^cntr_/);
  assert.equal(logs(result.toolResults[0]).trim(), "42");
  assert.match(result.text, /It is 42\.$/);
  assert.equal(result.finishReason, "stop");
  assert.equal(result.warnings.length, 0);
});

test("code execution, streaming", async () => {
  const found = await parts({ model: model("test/talks"), prompt: "Go on.", tools: code });
  const kinds = found.map(({ type }) => type);
  assert.ok(kinds.indexOf("tool-input-delta") < kinds.indexOf("tool-call"));
  const call = found.find(({ type }) => type === "tool-call");
  assert.equal(call.input.code, "6 * 7");
  const typed = found.filter(({ type }) => type === "tool-input-delta").map(({ delta }) => delta);
  assert.deepEqual(JSON.parse(typed.join("")), call.input);
  assert.equal(logs(found.find(({ type }) => type === "tool-result")).trim(), "42");
  assert.equal(joined(found, "text-delta"), "Let me compute.It is 42.");
  assert.ok(found.find(({ type }) => type === "finish").totalUsage.inputTokens > 0);
});

test("another name for the tool", async () => {
  const tools = { snake: provider().tools.codeInterpreter({}) };
  const result = await generateText({ model: model("test/talks"), prompt: "Go on.", tools, maxRetries: 0 });
  assert.equal(result.toolCalls[0].toolName, "snake");
});

test("a plot and a file", async () => {
  const plot = await generateText({ model: model("test/plot"), prompt: "Plot.", tools: code, maxRetries: 0 });
  const image = plot.toolResults[0].output.outputs.find(({ type }) => type === "image");
  checkPicture(image.url.split(",")[1]);
  const asked = { model: model("test/leaves"), prompt: "Squares.", tools: code };
  const found = await parts(asked);
  const source = found.find(({ type }) => type === "source");
  assert.equal(source.filename, "squares.csv");
  assert.match(source.providerMetadata.openai.containerId, /^cntr_/);
  const result = await generateText({ ...asked, maxRetries: 0 });
  assert.equal(result.sources[0].filename, "squares.csv");
});

// What was said stands there by its name: the items are the server's.
test("several turns, by names of items", async () => {
  const asked = { model: model("belljar/verbatim"), tools: code, maxRetries: 0 };
  const first = await generateText({ ...asked, prompt: python("kept = 41") });
  const messages = [
    { role: "user", content: python("kept = 41") },
    ...first.response.messages,
    { role: "user", content: python("print(kept + 1)") },
  ];
  const second = await generateText({ ...asked, messages });
  assert.ok(second.request.body.input.some(({ type }) => type === "item_reference"));
  assert.equal(logs(second.toolResults[0]), "42\n");
  assert.equal(second.toolCalls[0].input.containerId, first.toolCalls[0].input.containerId);
  const told = await generateText({ ...asked, model: model("test/echo"), messages });
  assert.match(told.text, /kept = 41/);
});

test("several turns, without the server's memory", async () => {
  const asked = { model: model("test/talks"), tools: code, providerOptions: { openai: { store: false } }, maxRetries: 0 };
  const first = await generateText({ ...asked, prompt: "Go on." });
  const messages = [{ role: "user", content: "Go on." }, ...first.response.messages, { role: "user", content: "Again." }];
  assert.match((await generateText({ ...asked, messages })).text, /It is 42\.$/);
});

test("several turns, by the response before", async () => {
  const asked = { model: model("belljar/verbatim"), tools: code, maxRetries: 0 };
  const first = await generateText({ ...asked, prompt: python("kept = 41") });
  const previousResponseId = first.providerMetadata.openai.responseId;
  const again = { ...asked, prompt: python("print(kept + 1)"), providerOptions: { openai: { previousResponseId } } };
  assert.equal(logs((await generateText(again)).toolResults[0]), "42\n");
});

for (const store of [true, false]) {
  test(`a function of the client's own between two executions, ${store ? "kept" : "not kept"}`, async () => {
    const tools = { ...code, get_weather: get_weather() };
    const providerOptions = { openai: { store } };
    const asked = { model: model("test/keeps"), prompt: "Go.", tools, stopWhen: stepCountIs(3), providerOptions };
    if (store) {
      assert.equal((await generateText({ ...asked, maxRetries: 0 })).text, "kept 42");
      assert.match(joined(await parts(asked), "text-delta"), /kept 42/);
    } else {
      // it leaves executions out of what it sends back, and so the model's code as well
      const result = await generateText({ ...asked, model: model("test/weather"), maxRetries: 0 });
      assert.match(result.text, /weather .*sunny in Tokyo/);
    }
  });
}

test("text, reasoning and usage", async () => {
  const asked = { model: model("test/thinks"), prompt: "Hello.", providerOptions: thinking, maxRetries: 0 };
  const result = await generateText(asked);
  assert.equal(result.text, "Thought.");
  assert.equal(result.reasoningText, "Let me think.");
  assert.equal(result.usage.totalTokens, 18);
  assert.equal(result.usage.outputTokenDetails.reasoningTokens, 3);
  const found = await parts(asked);
  assert.equal(joined(found, "text-delta"), "Thought.");
  assert.equal(joined(found, "reasoning-delta"), "Let me think.");
  assert.equal(found.find(({ type }) => type === "finish").totalUsage.totalTokens, 18);
});

test("a history with reasoning, kept and encrypted", async () => {
  for (const store of [true, false]) {
    const providerOptions = { openai: { ...thinking.openai, store } };
    const asked = { model: model("test/talks"), tools: code, providerOptions, maxRetries: 0 };
    const first = await generateText({ ...asked, prompt: "Go on." });
    const messages = [{ role: "user", content: "Go on." }, ...first.response.messages, { role: "user", content: "Again." }];
    assert.match((await generateText({ ...asked, messages })).text, /It is 42\.$/);
  }
});

test("an object by a schema", async () => {
  const schema = jsonSchema({ type: "object", properties: { answer: { type: "integer" } }, required: ["answer"] });
  const asked = { model: model("test/json"), prompt: "Answer.", output: Output.object({ schema }), maxRetries: 0 };
  assert.deepEqual((await generateText(asked)).output, { answer: 42 });
});

test("heartbeats", async () => {
  const slow = { model: model("test/slow-start", IMPATIENT_URL), prompt: "Go on.", maxRetries: 0 };
  assert.equal((await generateText(slow)).text, "At last.");
  assert.equal(joined(await parts(slow), "text-delta"), "At last.");
});

const failures = [
  ["no/such-model", 404, false],
  ["test/status-429", 429, true],
  ["test/status-503", 503, true],
  ["test/status-400", 400, false],
];
for (const [id, status, isRetryable] of failures) {
  test(`error: ${id}`, async () => {
    const error = await rejection(generateText({ model: model(id), prompt: "Hello.", maxRetries: 0 }));
    assert.ok(APICallError.isInstance(error), error);
    assert.equal(error.statusCode, status);
    assert.equal(error.isRetryable, isRetryable);
    assert.ok(error.data.error.message && error.message.includes(error.data.error.message));
  });
}

for (const id of ["test/breaks", "test/cut"]) {
  test(`error in mid-stream: ${id}`, async () => {
    const found = await parts({ model: model(id), prompt: "Hello." });
    assert.ok(joined(found, "text-delta").length > 0);
    const errors = found.filter(({ type }) => type === "error");
    assert.equal(errors.length, 1);
    assert.match(JSON.stringify(errors[0].error) + errors[0].error?.message, /upstream/);
  });
}

test("a stream that its reader gives up", async () => {
  const stop = new AbortController();
  const asked = { model: model("test/long"), prompt: "Talk.", abortSignal: stop.signal, onError: () => {} };
  for await (const part of streamText(asked).fullStream) {
    if (part.type === "text-delta") stop.abort();
  }
  assert.ok(stop.signal.aborted);
});
