// @ai-sdk/google under `ai`, unchanged. It has code execution for models whose names begin with gemini-.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { APICallError, Output, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { joined, parts } from "./ai.mjs";
import { rejection } from "./clients.mjs";
import { IMPATIENT_URL, URL_ } from "./common.mjs";

const provider = (url = URL_) => createGoogleGenerativeAI({ apiKey: "any-key", baseURL: `${url}/v1beta` });
const model = (id, url = URL_) => provider(url)(`models/${id}`); // it takes a name with a slash for a whole path
const code = { code_execution: provider().tools.codeExecution({}) };
const thinking = { google: { thinkingConfig: { includeThoughts: true } } };
const get_weather = () =>
  tool({
    description: "The weather in a city",
    inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
    execute: async ({ city }) => `sunny in ${city}`,
  });

test("code execution", async () => {
  const asked = { model: model("test/gemini-talks"), prompt: "Go on.", tools: code, maxRetries: 0 };
  const result = await generateText(asked);
  const [call] = result.toolCalls;
  assert.equal(call.input.code, "6 * 7");
  assert.equal(result.toolResults[0].output.outcome, "OUTCOME_OK");
  assert.equal(result.toolResults[0].output.output, "42\n");
  assert.match(result.text, /It is 42\.$/);
  assert.equal(result.finishReason, "stop");
  assert.equal(result.warnings.length, 0);
});

test("code execution, streaming", async () => {
  const found = await parts({ model: model("test/gemini-talks"), prompt: "Go on.", tools: code });
  assert.equal(found.find((part) => part.type === "tool-call").input.code, "6 * 7");
  assert.equal(found.find((part) => part.type === "tool-result").output.output, "42\n");
  assert.equal(joined(found, "text-delta"), "Let me compute.\n\nIt is 42.");
  assert.equal(found.find((part) => part.type === "finish").totalUsage.inputTokens > 0, true);
});

test("a history of code execution", async () => {
  const asked = { model: model("test/gemini-talks"), tools: code, maxRetries: 0 };
  const first = await generateText({ ...asked, prompt: "Go on." });
  const question = { role: "user", content: "Again." };
  const messages = [{ role: "user", content: "Go on." }, ...first.response.messages, question];
  assert.match((await generateText({ ...asked, messages })).text, /It is 42\.$/);
});

test("a function of the client's own, in two steps", async () => {
  const tools = { get_weather: get_weather() };
  const asked = { model: model("test/weather"), prompt: "The weather?", tools, stopWhen: stepCountIs(3), maxRetries: 0 };
  const result = await generateText(asked);
  assert.deepEqual(result.steps[0].toolCalls[0].input, { city: "Tokyo" });
  assert.match(result.text, /weather .*sunny in Tokyo/);
  assert.match(joined(await parts(asked), "text-delta"), /weather .*sunny in Tokyo/);
});

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
  assert.equal(found.find((part) => part.type === "finish").totalUsage.totalTokens, 18);
});

test("no reasoning unless it is asked for", async () => {
  const result = await generateText({ model: model("test/thinks"), prompt: "Hello.", maxRetries: 0 });
  assert.equal(result.reasoningText, undefined);
});

test("an object by a schema", async () => {
  const schema = jsonSchema({ type: "object", properties: { answer: { type: "integer" } }, required: ["answer"] });
  const asked = { model: model("test/json"), prompt: "Answer.", output: Output.object({ schema }), maxRetries: 0 };
  assert.deepEqual((await generateText(asked)).output, { answer: 42 });
});

test("settings and a system message", async () => {
  const settings = { temperature: 0.5, topP: 0.5, topK: 3, maxOutputTokens: 50, stopSequences: ["END"], seed: 3 };
  const asked = { model: model("test/echo"), system: "Be brief.", prompt: "Hello.", maxRetries: 0, ...settings };
  const sent = JSON.parse((await generateText(asked)).text);
  assert.equal(sent.messages[0].content, "Be brief.");
  assert.equal(sent.temperature, 0.5);
  assert.equal(sent.top_k, 3);
});

test("heartbeats", async () => {
  const slow = { model: model("test/slow-start", IMPATIENT_URL), prompt: "Go on.", maxRetries: 0 };
  assert.equal((await generateText(slow)).text, "At last.");
  assert.equal(joined(await parts(slow), "text-delta"), "At last.");
});

const failures = [
  ["no-such-model", 404, false],
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
    const failed = found.some((part) => part.type === "error");
    assert.ok(failed || found.find((part) => part.type === "finish").finishReason !== "stop");
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
