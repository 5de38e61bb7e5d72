// Alibaba's compatible mode through openai.

const FINISHES = { stop: "stop", length: "length", tool_calls: "calls" };
const PATIENCE = 1000; // milliseconds

function write({ model, text, code, own, thoughts, file, function: described }) {
  const data = file && `data:${file.media_type};base64,${Buffer.from(file.text).toString("base64")}`;
  const content = file
    ? [{ type: "text", text }, { type: "file", file: { filename: file.name, file_data: data } }]
    : text;
  return {
    model,
    messages: [{ role: "user", content }],
    ...(own ? { tools: [{ type: "function", function: described }] } : {}),
    ...(code ? { enable_code_interpreter: true } : {}),
    ...(thoughts ? { enable_thinking: true } : {}),
  };
}

function take(seen, calls, answer, part) {
  const usage = answer.usage;
  if (usage) {
    seen.usage = { prompt: usage.prompt_tokens, completion: usage.completion_tokens, total: usage.total_tokens };
  }
  for (const choice of answer.choices) {
    const message = choice[part];
    seen.finish = FINISHES[choice.finish_reason] ?? choice.finish_reason ?? seen.finish;
    seen.text += message.content ?? "";
    seen.reasoning += message.reasoning_content ?? "";
    for (const call of message.tool_calls ?? []) {
      const known = calls.get(call.index ?? 0) ?? ["", ""];
      calls.set(call.index ?? 0, [known[0] + (call.function.name ?? ""), known[1] + (call.function.arguments ?? "")]);
    }
  }
}

export const sdks = {
  openai: (require, url) => {
    const { OpenAI } = require("openai");
    const client = new OpenAI({ apiKey: "any-key", baseURL: `${url}/compatible-mode/v1`, maxRetries: 0 });
    const create = (question, streams, options) =>
      client.chat.completions.create(
        { ...write(question), ...(streams ? { stream: true, stream_options: { include_usage: true } } : {}) },
        options,
      );
    return {
      async ask(question, streams) {
        const seen = { text: "", reasoning: "", finish: "", usage: null, failure: null };
        const calls = new Map();
        try {
          const answer = await create(question, streams);
          if (streams) for await (const chunk of answer) take(seen, calls, chunk, "delta");
          else take(seen, calls, answer, "message");
        } catch (error) {
          if (!(error instanceof OpenAI.APIError)) throw error;
          const isServer = error instanceof OpenAI.InternalServerError;
          const fault = error.status ? (isServer ? "server" : "client") : null;
          seen.failure = { status: error.status ?? null, message: error.message, fault };
        }
        return { ...seen, calls: [...calls.values()].map(([name, written]) => [name, JSON.parse(written)]) };
      },
      async leave(question, streams) {
        if (streams) {
          for await (const chunk of await create(question, true)) if (chunk.choices[0]?.delta.content) return;
        }
        const error = await create(question, false, { timeout: PATIENCE }).then(() => null, (thrown) => thrown);
        if (!(error instanceof OpenAI.APIConnectionTimeoutError)) throw error ?? new Error("it should have taken longer");
      },
    };
  },
};
