// groq-sdk, unchanged: the guides' JavaScript as their readers have it, then what every client is put through.

import assert from "node:assert/strict";
import { test } from "node:test";
import Groq from "groq-sdk";
import { testClient } from "./clients.mjs";
import { URL_ } from "./common.mjs";

process.env.GROQ_API_KEY = "any-key";
process.env.GROQ_BASE_URL = URL_;

test("guide's code: quick start (Compound)", async () => {
  const groq = new Groq({ apiKey: process.env.GROQ_API_KEY });

  const response = await groq.chat.completions.create({
    messages: [
      {
        role: "user",
        content: "Calculate the square root of 101 and show me the Python code you used",
      },
    ],
    model: "groq/compound-mini",
  });

  assert.match(response.choices[0].message.content, /10\.04987562112089/);
  assert.match(response.choices[0].message.reasoning, /<tool>[^]*<\/tool>[^]*<output>[^]*<\/output>/);
  assert.equal(
    response.choices[0].message.executed_tools?.[0].output,
    "The square root of 101 is: \n10.04987562112089\n",
  );
});

test("guide's code: quick start (GPT-OSS)", async () => {
  const groq = new Groq({ apiKey: process.env.GROQ_API_KEY });

  const response = await groq.chat.completions.create({
    messages: [
      {
        role: "user",
        content: "Calculate the square root of 12345. Output only the final answer.",
      },
    ],
    model: "openai/gpt-oss-20b", // or "openai/gpt-oss-120b"
    tool_choice: "required",
    tools: [
      {
        type: "code_interpreter",
      },
    ],
  });

  assert.equal(response.choices[0].message.content, "111.1080555135405");
  assert.equal(response.choices[0].message.reasoning, "We need sqrt(12345).");
  assert.deepEqual(response.choices[0].message.executed_tools?.[0], {
    name: "python",
    index: 0,
    type: "function",
    arguments: "import math\nmath.sqrt(12345)\n",
    search_results: { results: null },
    code_results: [{ text: "111.1080555135405" }],
  });
});

test("guide's code: use cases", async () => {
  const groq = new Groq();

  const questions = {
    "Calculate the monthly payment for a $30,000 loan over 5 years at 6% annual interest rate using the standard loan payment formula. Use python code.":
      /579\.98/,
    "Will this Python code raise an error? `import numpy as np; a = np.array([1, 2]); b = np.array([3, 4, 5]); print(a + b)`":
      /ValueError/,
  };
  for (const [content, answer] of Object.entries(questions)) {
    const chatCompletion = await groq.chat.completions.create({
      messages: [{ role: "user", content }],
      model: "groq/compound-mini",
    });
    assert.match(chatCompletion.choices[0]?.message?.content || "", answer);
  }
});

test("executed tools of a stream", async () => {
  const groq = new Groq();
  const outputs = [];
  const messages = [{ role: "user", content: "Calculate the square root of 101" }];
  for await (const chunk of await groq.chat.completions.create({ model: "groq/compound", messages, stream: true })) {
    for (const tool of chunk.choices[0].delta.executed_tools ?? []) outputs.push(tool.output);
  }
  assert.equal(outputs[0], undefined);
  assert.equal(outputs.at(-1), "The square root of 101 is: \n10.04987562112089\n");
});

testClient({
  make: (url, options) => new Groq({ apiKey: "any-key", baseURL: url, maxRetries: 0, ...options }),
  errors: Groq,
  inner: (error) => error.error.error ?? error.error,
});
