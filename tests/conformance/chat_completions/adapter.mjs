// Chat completions through groq-sdk and openai.

const FINISHES = { stop: "stop", length: "length", tool_calls: "calls" };
const PATIENCE = 1000; // milliseconds

function write({ model, text, code, own, file, function: described }) {
  const tools = [...(code ? [{ type: "code_interpreter" }] : []), ...(own ? [{ type: "function", function: described }] : [])];
  const data = file && `data:${file.media_type};base64,${Buffer.from(file.text).toString("base64")}`;
  const content = file
    ? [{ type: "text", text }, { type: "file", file: { filename: file.name, file_data: data } }]
    : text;
  return { model, messages: [{ role: "user", content }], ...(tools.length ? { tools } : {}) };
}

function take(state, answer, part) {
  state.usage = answer.usage ?? answer.x_groq?.usage ?? state.usage;
  for (const choice of answer.choices) {
    const message = choice[part];
    state.finish = choice.finish_reason ?? state.finish;
    state.text += message.content ?? "";
    state.reasoning += message.reasoning ?? "";
    for (const tool of message.executed_tools ?? []) state.tools.set(tool.index, tool);
    for (const call of message.tool_calls ?? []) {
      const known = state.calls.get(call.index ?? 0) ?? ["", ""];
      state.calls.set(call.index ?? 0, [known[0] + (call.function.name ?? ""), known[1] + (call.function.arguments ?? "")]);
    }
  }
}

function read({ text, reasoning, tools, calls, finish, usage }, failure = null) {
  const results = [...tools.values()].map((tool) => tool.code_results ?? []);
  return {
    text,
    reasoning,
    codes: [...tools.values()].map((tool) => tool.arguments),
    outputs: results.map((ofOne) => ofOne.map((result) => result.text ?? "").join("")),
    images: results.flat().flatMap((result) => (result.png ? [result.png] : [])),
    calls: [...calls.values()].map(([name, written]) => [name, JSON.parse(written)]),
    finish: FINISHES[finish] ?? finish,
    usage: usage && { prompt: usage.prompt_tokens, completion: usage.completion_tokens, total: usage.total_tokens },
    failure,
  };
}

function readError(error, errors) {
  if (!(error instanceof errors.APIError)) throw error;
  const status = error.status ?? (error.error?.error ?? error.error)?.status_code ?? null;
  const isServer = error.status ? error instanceof errors.InternalServerError : status >= 500;
  return { status, message: error.message, fault: isServer ? "server" : "client" };
}

function judge(client, errors) {
  const create = (question, streams, options) =>
    client.chat.completions.create({ ...write(question), stream: streams }, options);
  return {
    async ask(question, streams) {
      const state = { text: "", reasoning: "", tools: new Map(), calls: new Map(), finish: "", usage: null };
      try {
        const answer = await create(question, streams);
        if (streams) for await (const chunk of answer) take(state, chunk, "delta");
        else take(state, answer, "message");
      } catch (error) {
        return read(state, readError(error, errors));
      }
      return read(state);
    },
    async leave(question, streams) {
      if (!streams) {
        const error = await create(question, false, { timeout: PATIENCE }).then(() => null, (thrown) => thrown);
        if (!(error instanceof errors.APIConnectionTimeoutError)) throw error ?? new Error("it should have taken longer");
        return;
      }
      for await (const chunk of await create(question, true)) if (chunk.choices[0].delta.content) break;
    },
  };
}

export const sdks = {
  "groq-sdk": (require, url) => {
    const { Groq } = require("groq-sdk");
    return judge(new Groq({ apiKey: "any-key", baseURL: url, maxRetries: 0 }), Groq);
  },
  openai: (require, url) => {
    const { OpenAI } = require("openai");
    return judge(new OpenAI({ apiKey: "any-key", baseURL: `${url}/v1`, maxRetries: 0 }), OpenAI);
  },
};
