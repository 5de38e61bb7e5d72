// What `groq-sdk` and `openai` share: the tests of a client whose chat.completions.create is Groq's or OpenAI's.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  GUIDES,
  IMPATIENT_URL,
  INTERPRETER,
  KEYED_URL,
  SLOW,
  URL_,
  WEATHER,
  checkGuide,
  checkPicture,
  gather,
  nothing,
  see,
  user,
} from "./common.mjs";

// `make(url, options)` gives a client; `errors` is the SDK's class with its error classes; `inner(error)` its body.
export function testClient({ make, errors, inner }) {
  const client = make(URL_);
  const ask = (request, options) => client.chat.completions.create(request, options);
  const whole = async (request, options) => see(nothing(), await ask(request, options), "message");
  const stream = async (request, options) => gather(await ask({ ...request, stream: true }, options));

  for (const guide of GUIDES) {
    const options = { headers: guide.headers ?? {} };
    test(`guide: ${guide.name}`, async () => checkGuide(guide, await whole(guide.request, options)));
    test(`guide, streaming: ${guide.name}`, async () => checkGuide(guide, await stream(guide.request, options)));
  }

  for (const [way, run] of Object.entries({ whole, stream })) {
    test(`plot, ${way}`, async () => {
      const seen = await run({ model: "test/plot", messages: user("Plot."), tools: [INTERPRETER] });
      checkPicture(seen.tools.get(0).code_results.find((result) => result.png).png);
    });

    test(`own function beside the interpreter, and its history sent back, ${way}`, async () => {
      const tools = [INTERPRETER, WEATHER];
      const messages = user("Compute, then ask.");
      const seen = await run({ model: "test/mixes", messages, tools });
      assert.equal(seen.finish, "tool_calls");
      assert.deepEqual(JSON.parse(seen.calls.get(0).arguments), { city: "Tokyo" });
      const { message } = (await ask({ model: "test/mixes", messages, tools })).choices[0];
      const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "sunny" };
      const next = await run({ model: "test/mixes", messages: [...messages, message, result], tools });
      assert.equal(next.content, "computed 42, weather sunny");
    });

    test(`heartbeats, ${way}`, async () => {
      const impatient = make(IMPATIENT_URL, { timeout: 20_000 });
      const request = { ...SLOW, stream: way === "stream" };
      const answer = await impatient.chat.completions.create(request);
      const seen = way === "stream" ? await gather(answer) : see(nothing(), answer, "message");
      assert.ok(seen.content.includes("awake"));
      assert.equal(seen.tools.get(0).code_results[0].text, "awake");
    });
  }

  test("JSON by a schema", async () => {
    const json_schema = { name: "answer", schema: { type: "object", properties: { answer: { type: "integer" } } } };
    const response_format = { type: "json_schema", json_schema };
    const seen = await whole({ model: "test/json", messages: user("Answer in JSON."), response_format });
    assert.deepEqual(JSON.parse(seen.content), { answer: 42 });
  });

  test("models, with slashes in their names", async () => {
    const names = [];
    for await (const model of (await client.models.list()).data) names.push(model.id);
    assert.ok(names.includes("openai/gpt-oss-20b") && names.includes("groq/compound"), names.join());
    assert.equal((await client.models.retrieve("openai/gpt-oss-20b")).id, "openai/gpt-oss-20b");
  });

  const messages = user("Hello.");
  const failures = [
    ["unknown model", { model: "no/such-model", messages }, errors.NotFoundError, "model_not_found"],
    ["no messages", { model: "test/thinks" }, errors.BadRequestError, undefined],
    ["two answers", { model: "test/thinks", messages, n: 2 }, errors.BadRequestError, undefined],
    ["unknown tool", { model: "test/thinks", messages, tools: [{ type: "teleport" }] }, errors.BadRequestError, undefined],
    [
      "no call",
      { model: "test/stubborn", messages, tools: [INTERPRETER], tool_choice: "required" },
      errors.BadRequestError,
      "tool_use_failed",
    ],
    ["the upstream: too many requests", { model: "test/status-429", messages }, errors.RateLimitError, undefined],
    ["the upstream: down", { model: "test/status-503", messages }, errors.InternalServerError, undefined],
  ];
  for (const [name, request, type, code] of failures) {
    test(`error: ${name}`, async () => {
      const error = await rejection(ask(request));
      assert.ok(error instanceof type, `${error.constructor.name}: ${error.message}`);
      assert.ok(inner(error).message && inner(error).type);
      if (code !== undefined) assert.equal(inner(error).code, code);
      assert.ok(error.headers.get("x-request-id").startsWith("req_"));
    });
  }

  test("failed_generation", async () => {
    const request = { model: "test/stubborn", messages, tools: [INTERPRETER], tool_choice: "required" };
    assert.equal(inner(await rejection(ask(request))).failed_generation, "I would rather not.");
  });

  test("error: a wrong key", async () => {
    const wrong = make(KEYED_URL, { apiKey: "wrong" });
    const error = await rejection(wrong.chat.completions.create({ model: "test/thinks", messages }));
    assert.ok(error instanceof errors.AuthenticationError);
    const right = make(KEYED_URL, { apiKey: "right" });
    assert.ok((await right.chat.completions.create({ model: "test/thinks", messages })).choices.length);
  });

  for (const model of ["test/breaks", "test/cut"]) {
    test(`error in mid-stream: ${model}`, async () => {
      const seen = nothing();
      const answer = await ask({ model, messages, stream: true });
      const error = await rejection((async () => { for await (const chunk of answer) see(seen, chunk, "delta"); })());
      assert.ok(error instanceof errors.APIError, error);
      assert.ok(seen.content.length > 0);
      assert.match(JSON.stringify(error.error) + error.message, /upstream/);
    });
  }
}

export async function rejection(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail("it did not fail");
}
