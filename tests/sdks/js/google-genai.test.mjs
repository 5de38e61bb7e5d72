// @google/genai, unchanged: code execution in each of its modes, chats, functions, JSON, errors.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiError, FunctionCallingConfigMode, GoogleGenAI, createPartFromBase64 } from "@google/genai";
import { rejection } from "./clients.mjs";
import { IMPATIENT_URL, KEYED_URL, URL_, checkPicture } from "./common.mjs";

const CODE = [{ codeExecution: {} }];
const WEATHER = {
  name: "get_weather",
  description: "The weather in a city",
  parametersJsonSchema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const modes = {
  gemini: (url) => new GoogleGenAI({ apiKey: "any-key", httpOptions: { baseUrl: url } }),
  "gemini, v1": (url) => new GoogleGenAI({ apiKey: "any-key", apiVersion: "v1", httpOptions: { baseUrl: url } }),
  express: (url) => new GoogleGenAI({ vertexai: true, apiKey: "any-key", httpOptions: { baseUrl: url } }),
};
const { models, chats } = modes.gemini(URL_);

// Whole answers and streams in one form.
function see(seen, answer) {
  seen.usage = answer.usageMetadata ?? seen.usage;
  for (const candidate of answer.candidates) {
    seen.finish = candidate.finishReason ?? seen.finish;
    for (const part of candidate.content.parts) {
      seen.parts.push(part);
      if (part.executableCode) seen.codes.push(part.executableCode.code);
      else if (part.codeExecutionResult) seen.results.push(part.codeExecutionResult);
      else if (part.inlineData) seen.pictures.push(part.inlineData.data);
      else if (part.functionCall) seen.calls.push(part.functionCall);
      else if (part.thought) seen.thoughts += part.text;
      else seen.text += part.text ?? "";
    }
  }
  return seen;
}
const nothing = () => ({ parts: [], codes: [], results: [], pictures: [], calls: [], text: "", thoughts: "" });

async function gather(stream) {
  const seen = nothing();
  for await (const chunk of stream) see(seen, chunk);
  return seen;
}

const ways = {
  whole: async (request, client = models) => see(nothing(), await client.generateContent(request)),
  stream: async (request, client = models) => gather(await client.generateContentStream(request)),
};

test("what the guides read", async () => {
  const response = await models.generateContent({ model: "test/talks", contents: "Go on.", config: { tools: CODE } });
  assert.equal(response.executableCode, "6 * 7");
  assert.equal(response.codeExecutionResult, "42\n");
  assert.equal(response.text, "Let me compute.\n\nIt is 42.");
  assert.ok(response.responseId.startsWith("req_"));
});

for (const [way, ask] of Object.entries(ways)) {
  for (const [mode, make] of Object.entries(modes)) {
    test(`code execution, ${mode}, ${way}`, async () => {
      const seen = await ask({ model: "test/talks", contents: "Go on.", config: { tools: CODE } }, make(URL_).models);
      assert.deepEqual(seen.codes, ["6 * 7"]);
      assert.equal(seen.results[0].outcome, "OUTCOME_OK");
      assert.equal(seen.results[0].output, "42\n");
      assert.equal(seen.text, "Let me compute.\n\nIt is 42.");
      assert.equal(seen.thoughts, "");
      assert.equal(seen.finish, "STOP");
      assert.equal(seen.usage.totalTokenCount, 36);
    });
  }

  test(`thoughts, ${way}`, async () => {
    const config = { tools: CODE, thinkingConfig: { includeThoughts: true } };
    const seen = await ask({ model: "test/talks", contents: "Go on.", config });
    assert.equal(seen.thoughts, "Hm.\n\nSo.");
  });

  test(`plot, ${way}`, async () => {
    const seen = await ask({ model: "test/plot", contents: "Plot.", config: { tools: CODE } });
    assert.equal(seen.pictures.length, 1);
    checkPicture(seen.pictures[0]);
  });

  test(`a traceback, ${way}`, async () => {
    const seen = await ask({ model: "belljar/verbatim", contents: "```python\n1 / 0\n```", config: { tools: CODE } });
    assert.equal(seen.results[0].outcome, "OUTCOME_FAILED");
    assert.match(seen.results[0].output, /ZeroDivisionError/);
  });

  test(`a file, ${way}`, async () => {
    const code = "import pathlib\n[file] = pathlib.Path('/mnt/data').iterdir()\nprint(file.read_text())";
    const file = createPartFromBase64(Buffer.from("a,b\n1,2").toString("base64"), "text/csv");
    const contents = [file, `\`\`\`python\n${code}\n\`\`\``];
    const seen = await ask({ model: "belljar/verbatim", contents, config: { tools: CODE } });
    assert.equal(seen.results[0].output, "a,b\n1,2\n");
  });

  test(`own function beside code, and its history sent back, ${way}`, async () => {
    const config = { tools: [...CODE, { functionDeclarations: [WEATHER] }] };
    const seen = await ask({ model: "test/mixes", contents: "Compute, then ask.", config });
    assert.equal(seen.results[0].output, "42\n");
    const [call] = seen.calls;
    assert.deepEqual(call.args, { city: "Tokyo" });
    const response = { id: call.id, name: call.name, response: { output: "sunny" } };
    const contents = [
      { role: "user", parts: [{ text: "Compute, then ask." }] },
      { role: "model", parts: seen.parts },
      { role: "user", parts: [{ functionResponse: response }] },
    ];
    const next = await ask({ model: "test/mixes", contents, config });
    assert.equal(next.text, 'computed 42, weather {"output":"sunny"}');
  });

  test(`JSON by a schema, ${way}`, async () => {
    const schema = { type: "OBJECT", properties: { answer: { type: "INTEGER" } }, required: ["answer"] };
    const config = { responseMimeType: "application/json", responseSchema: schema };
    const seen = await ask({ model: "test/json", contents: "Go on.", config });
    assert.deepEqual(JSON.parse(seen.text), { answer: 42 });
  });

  test(`heartbeats, ${way}`, async () => {
    const contents = "```python\nimport time\ntime.sleep(0.35)\nprint('awake')\n```";
    const request = { model: "belljar/verbatim", contents, config: { tools: CODE } };
    const seen = await ask(request, modes.gemini(IMPATIENT_URL).models);
    assert.equal(seen.results[0].output, "awake\n");
  });

  const failures = [
    ["unknown model", { model: "no-such-model" }, 404, "NOT_FOUND"],
    ["two candidates", { config: { candidateCount: 2 } }, 400, "INVALID_ARGUMENT"],
    ["search", { config: { tools: [{ googleSearch: {} }] } }, 400, "INVALID_ARGUMENT"],
    ["the upstream: too many requests", { model: "test/status-429" }, 429, "RESOURCE_EXHAUSTED"],
    ["the upstream: down", { model: "test/status-503" }, 503, "UNAVAILABLE"],
  ];
  for (const [name, changes, code, status] of failures) {
    test(`error: ${name}, ${way}`, async () => {
      const error = await rejection(ask({ model: "test/thinks", contents: "Hello.", ...changes }));
      assert.ok(error instanceof ApiError, error);
      assert.equal(error.status, code);
      const inner = JSON.parse(error.message).error;
      assert.equal(inner.status, status);
      assert.ok(inner.message);
    });
  }
}

for (const model of ["test/breaks", "test/cut"]) {
  test(`error in mid-stream: ${model}`, async () => {
    const seen = nothing();
    const stream = await models.generateContentStream({ model, contents: "Hello." });
    const error = await rejection((async () => { for await (const chunk of stream) see(seen, chunk); })());
    assert.ok(seen.text.length > 0);
    assert.match(error.message, /UNAVAILABLE/);
  });
}

test("a chat", async () => {
  const chat = chats.create({ model: "test/talks", config: { tools: CODE } });
  assert.equal((await chat.sendMessage({ message: "Compute." })).text, "Let me compute.\n\nIt is 42.");
  assert.equal((await gather(await chat.sendMessageStream({ message: "Again." }))).text, "Let me compute.\n\nIt is 42.");
  assert.equal((await chat.sendMessage({ message: "Once more." })).codeExecutionResult, "42\n");
  assert.ok(chat.getHistory(true).length > 4);
});

test("a function that must be called", async () => {
  const toolConfig = { functionCallingConfig: { mode: FunctionCallingConfigMode.ANY } };
  const config = { tools: [{ functionDeclarations: [WEATHER] }], toolConfig };
  const response = await models.generateContent({ model: "test/weather", contents: "The weather?", config });
  assert.deepEqual(response.functionCalls[0].args, { city: "Tokyo" });
});

test("models and tokens", async () => {
  const names = [];
  for await (const model of await models.list()) names.push(model.name);
  assert.ok(names.includes("models/openai/gpt-oss-20b"), names.join());
  assert.equal((await models.get({ model: "openai/gpt-oss-20b" })).name, "models/openai/gpt-oss-20b");
  assert.equal((await models.countTokens({ model: "test/talks", contents: "Hello." })).totalTokens, 11);
});

test("error: a wrong key", async () => {
  const ask = (apiKey) =>
    new GoogleGenAI({ apiKey, httpOptions: { baseUrl: KEYED_URL } }).models.generateContent({
      model: "test/thinks",
      contents: "Hello.",
    });
  assert.equal((await rejection(ask("wrong"))).status, 401);
  assert.equal((await ask("right")).text, "Thought.");
});
