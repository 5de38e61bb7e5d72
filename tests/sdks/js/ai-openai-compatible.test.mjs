// @ai-sdk/openai-compatible under `ai`, unchanged. Its users ask for the code interpreter by transformRequestBody.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText } from "ai";
import { joined, parts, testProvider } from "./ai.mjs";
import { INTERPRETER, URL_, checkPicture } from "./common.mjs";

const provider = (url, more = {}) =>
  createOpenAICompatible({ name: "belljar", apiKey: "any-key", baseURL: `${url}/v1`, includeUsage: true, ...more });
const model = (id, url = URL_) => provider(url, { supportsStructuredOutputs: true })(id);
const withInterpreter = provider(URL_, {
  transformRequestBody: (body) => ({ ...body, tools: [...(body.tools ?? []), INTERPRETER] }),
});

testProvider(model);

test("the code interpreter, by transformRequestBody", async () => {
  const asked = { model: withInterpreter("openai/gpt-oss-20b"), prompt: "The square root of 12345?", maxRetries: 0 };
  const result = await generateText(asked);
  assert.equal(result.text, "111.1080555135405");
  assert.equal(result.reasoningText, "We need sqrt(12345).");
  const { message } = result.response.body.choices[0];
  assert.deepEqual(message.executed_tools[0].code_results, [{ text: "111.1080555135405" }]);
  assert.equal(joined(await parts(asked), "text-delta"), "111.1080555135405");
});

test("a plot", async () => {
  const result = await generateText({ model: withInterpreter("test/plot"), prompt: "Plot.", maxRetries: 0 });
  const [executed] = result.response.body.choices[0].message.executed_tools;
  checkPicture(executed.code_results.find((part) => part.png).png);
});
