// What the tests of all JavaScript SDKs share: the server's address, the guides' requests, what is expected of an answer.
//
// test_javascript.py starts a server and runs each file with BELLJAR_URL set: BELLJAR_URL=http://127.0.0.1:8787 node x.test.mjs

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

export const URL_ = process.env.BELLJAR_URL; // the host alone, as GROQ_BASE_URL has it
export const IMPATIENT_URL = process.env.BELLJAR_IMPATIENT_URL; // the same server, with a heartbeat every 50 ms
export const KEYED_URL = process.env.BELLJAR_KEYED_URL; // the same server, which wants the key "right"
export const GUIDES = JSON.parse(readFileSync(new URL("../guides.json", import.meta.url), "utf8"));
export const INTERPRETER = { type: "code_interpreter" };
export const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
export const SLOW = {
  model: "belljar/verbatim",
  messages: [{ role: "user", content: "```python\nimport time\ntime.sleep(0.35)\nprint('awake')\n```" }],
  tools: [INTERPRETER],
};

export const user = (content) => [{ role: "user", content }];

// Whole answers and streams in one form; executed tools are keyed by index, and the later one wins.
export function see(seen, answer, part) {
  seen.model = answer.model;
  seen.usage = answer.usage ?? answer.x_groq?.usage ?? seen.usage;
  seen.breakdown = answer.usage_breakdown ?? answer.x_groq?.usage_breakdown ?? seen.breakdown;
  for (const choice of answer.choices) {
    const message = choice[part];
    seen.finish = choice.finish_reason ?? seen.finish;
    seen.content += message.content ?? "";
    seen.reasoning += message.reasoning ?? "";
    for (const tool of message.executed_tools ?? []) seen.tools.set(tool.index, tool);
    for (const call of message.tool_calls ?? []) {
      const known = seen.calls.get(call.index ?? 0) ?? { id: call.id, name: "", arguments: "" };
      known.name += call.function?.name ?? "";
      known.arguments += call.function?.arguments ?? "";
      seen.calls.set(call.index ?? 0, known);
    }
  }
  return seen;
}

export const nothing = () => ({ content: "", reasoning: "", tools: new Map(), calls: new Map() });

export async function gather(stream) {
  const seen = nothing();
  for await (const chunk of stream) see(seen, chunk, "delta");
  return seen;
}

export function checkGuide(guide, seen) {
  for (const part of guide.content) assert.ok(seen.content.includes(part), seen.content);
  for (const part of guide.reasoning) assert.ok(seen.reasoning.includes(part), seen.reasoning);
  assert.equal(seen.finish, "stop");
  assert.equal(seen.model, guide.request.model);
  assert.ok(seen.usage.total_tokens > 0);
  assert.equal(seen.tools.size, guide.tool ? 1 : 0);
  if (guide.tool) checkTool(guide.tool, seen.tools.get(0));
  if (guide.request.model.startsWith("groq/")) {
    const sum = seen.breakdown.models.reduce((total, entry) => total + entry.usage.total_tokens, 0);
    assert.equal(sum, seen.usage.total_tokens);
  }
}

export function checkTool(expected, tool) {
  assert.equal(tool.type, expected.type);
  const isCompound = tool.type === "python";
  const code = isCompound ? JSON.parse(tool.arguments).code : tool.arguments;
  const output = isCompound ? tool.output : tool.code_results[0].text;
  assert.equal(code, expected.code);
  assert.equal(output, expected.output ?? output);
  for (const part of expected.output_holds ?? []) assert.ok(output.includes(part), output);
}

export function checkPicture(base64) {
  const png = Buffer.from(base64, "base64");
  assert.equal(png.subarray(0, 8).toString("latin1"), "\x89PNG\r\n\x1a\n");
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
  assert.ok(width > 100 && width < 600 && height > 50 && height < 400, `${width} x ${height}`);
}
