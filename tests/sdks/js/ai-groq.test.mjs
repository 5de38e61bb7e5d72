// @ai-sdk/groq under `ai`, unchanged. It knows no code_interpreter tool: code is executed by the compound systems.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createGroq } from "@ai-sdk/groq";
import { generateText } from "ai";
import { testProvider } from "./ai.mjs";
import { GUIDES, URL_, checkGuide, nothing, see } from "./common.mjs";

const model = (id, url = URL_) => createGroq({ apiKey: "any-key", baseURL: `${url}/openai/v1` })(id);

testProvider(model);

for (const guide of GUIDES.filter((guide) => guide.request.model.startsWith("groq/"))) {
  test(`guide: ${guide.name}`, async () => {
    const prompt = guide.request.messages[0].content;
    const result = await generateText({
      model: model(guide.request.model),
      prompt,
      headers: guide.headers ?? {},
      maxRetries: 0,
    });
    checkGuide(guide, see(nothing(), result.response.body, "message"));
    for (const part of guide.content) assert.ok(result.text.includes(part), result.text);
  });
}

test("options of the provider", async () => {
  const options = { reasoningFormat: "hidden", parallelToolCalls: false, serviceTier: "flex", user: "ann" };
  const result = await generateText({
    model: model("test/thinks"),
    prompt: "Hello.",
    providerOptions: { groq: options },
    maxRetries: 0,
  });
  assert.equal(result.text, "Thought.");
  assert.equal(result.reasoningText, undefined);
});
