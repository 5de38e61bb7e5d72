// What both providers of the AI SDK share. `model(id, url?)` gives a language model.

import assert from "node:assert/strict";
import { test } from "node:test";
import { APICallError, Output, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { rejection } from "./clients.mjs";
import { IMPATIENT_URL, URL_ } from "./common.mjs";

const get_weather = () =>
  tool({
    description: "The weather in a city",
    inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
    execute: async ({ city }) => `sunny in ${city}`,
  });

export async function parts(options) {
  const result = streamText({ maxRetries: 0, onError: () => {}, ...options });
  const found = [];
  for await (const part of result.fullStream) found.push(part);
  return found;
}

export const joined = (found, type) => found.filter((part) => part.type === type).map((part) => part.text).join("");

export function testProvider(model) {
  const hello = { model: model("test/thinks"), prompt: "Hello.", maxRetries: 0 };

  test("text, reasoning and usage", async () => {
    const result = await generateText(hello);
    assert.equal(result.text, "Thought.");
    assert.equal(result.reasoningText, "Let me think.");
    assert.equal(result.finishReason, "stop");
    assert.equal(result.usage.totalTokens, 18);
  });

  test("text, reasoning and usage, streaming", async () => {
    const found = await parts(hello);
    assert.equal(joined(found, "text-delta"), "Thought.");
    assert.equal(joined(found, "reasoning-delta"), "Let me think.");
    const finish = found.find((part) => part.type === "finish");
    assert.equal(finish.finishReason, "stop");
    assert.equal(finish.totalUsage.totalTokens, 18);
  });

  test("a function of the client's own, in two steps", async () => {
    const tools = { get_weather: get_weather() };
    const asked = { model: model("test/weather"), prompt: "The weather?", tools, stopWhen: stepCountIs(3), maxRetries: 0 };
    const result = await generateText(asked);
    assert.deepEqual(result.steps[0].toolCalls[0].input, { city: "Tokyo" });
    assert.match(result.text, /weather "?sunny in Tokyo/);
    const found = await parts(asked);
    assert.match(joined(found, "text-delta"), /weather "?sunny in Tokyo/);
  });

  test("an object by a schema", async () => {
    const schema = jsonSchema({ type: "object", properties: { answer: { type: "integer" } }, required: ["answer"] });
    const asked = { model: model("test/json"), prompt: "Answer.", output: Output.object({ schema }), maxRetries: 0 };
    assert.deepEqual((await generateText(asked)).output, { answer: 42 });
  });

  test("code execution by a compound system", async () => {
    const asked = { model: model("groq/compound"), prompt: "Calculate the square root of 101", maxRetries: 0 };
    const result = await generateText(asked);
    assert.match(result.text, /10\.04987562112089/);
    assert.match(result.reasoningText, /<tool>[^]*<output>/);
    const [executed] = result.response.body.choices[0].message.executed_tools;
    assert.equal(executed.output, "The square root of 101 is: \n10.04987562112089\n");
    const found = await parts({ ...asked, includeRawChunks: true });
    assert.match(joined(found, "text-delta"), /10\.04987562112089/);
    const raw = found.filter((part) => part.type === "raw").map((part) => part.rawValue);
    const tools = raw.flatMap((chunk) => chunk.choices?.[0]?.delta?.executed_tools ?? []);
    assert.equal(tools.at(-1).output, "The square root of 101 is: \n10.04987562112089\n");
  });

  test("heartbeats", async () => {
    const prompt = "```python\nimport time\ntime.sleep(0.7)\nprint('awake')\n```";
    const slow = { model: model("test/slow-start", IMPATIENT_URL), prompt, maxRetries: 0 };
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
      const errors = found.filter((part) => part.type === "error");
      assert.equal(errors.length, 1);
      assert.match(JSON.stringify(errors[0].error) + errors[0].error?.message, /upstream/);
    });
  }

  test("a stream that its reader gives up", async () => {
    const stop = new AbortController();
    const result = streamText({ model: model("test/long"), prompt: "Talk.", abortSignal: stop.signal, onError: () => {} });
    for await (const part of result.fullStream) {
      if (part.type === "text-delta") stop.abort();
    }
  });

  assert.ok(URL_);
}
