// Responses through openai, and through @ai-sdk/openai under `ai`.

const FINISHES = { completed: "stop", incomplete: "length" };
const OUTCOMES = { completed: "ok" };
const ENDS = ["response.completed", "response.incomplete", "response.failed"];
const OUTPUTS = "code_interpreter_call.outputs";
const PATIENCE = 1000; // milliseconds

const nothing = () => ({
  ...{ text: "", reasoning: "", codes: [], outputs: [], outcomes: [], images: [], files: [], calls: [] },
  ...{ finish: "", usage: null, failure: null },
});
const dataUrl = ({ media_type, text }) => `data:${media_type};base64,${Buffer.from(text).toString("base64")}`;

// What code gave, in the form that both SDKs have it in.
function takeOutputs(seen, outputs) {
  const logs = (outputs ?? []).filter(({ type }) => type === "logs").map((output) => output.logs);
  seen.outputs.push(logs.join(""));
  const pictures = (outputs ?? []).filter(({ type }) => type === "image").map(({ url }) => url.split(",")[1]);
  seen.images.push(...pictures);
}

// --- openai ----------------------------------------------------------------------------------------------------------

function write({ model, text, code, own, thoughts, file, function: described }) {
  const tools = [
    ...(code ? [{ type: "code_interpreter", container: { type: "auto" } }] : []),
    ...(own ? [{ type: "function", ...described }] : []),
  ];
  const attached = file && { type: "input_file", filename: file.name, file_data: dataUrl(file) };
  return {
    model,
    input: file ? [{ role: "user", content: [{ type: "input_text", text }, attached] }] : text,
    include: [OUTPUTS],
    ...(tools.length ? { tools } : {}),
    ...(thoughts ? { reasoning: { summary: "auto" } } : {}),
  };
}

const ITEMS = {
  message: (seen, { content }) => {
    seen.text += content.map((part) => part.text).join("");
    const cited = content.flatMap((part) => part.annotations).filter(({ end_index }) => end_index > 0);
    seen.files.push(...cited.map(({ filename }) => filename));
  },
  reasoning: (seen, { summary, content }) => {
    seen.reasoning += [...summary, ...(content ?? [])].map((part) => part.text).join("");
  },
  code_interpreter_call: (seen, { code, outputs, status }) => {
    seen.codes.push(code);
    seen.outcomes.push(OUTCOMES[status] ?? status);
    takeOutputs(seen, outputs);
  },
  function_call: (seen, call) => seen.calls.push([call.name, JSON.parse(call.arguments)]),
};

function end(seen, { status, error, usage }) {
  seen.finish = FINISHES[status] ?? status;
  if (error) seen.failure = { status: null, message: error.message, fault: null };
  if (usage) {
    seen.usage = { prompt: usage.input_tokens, completion: usage.output_tokens, total: usage.total_tokens };
  }
}

const openai = (require, url) => {
  const { OpenAI } = require("openai");
  const { responses } = new OpenAI({ apiKey: "any-key", baseURL: `${url}/v1`, maxRetries: 0 });
  return {
    async ask(question, streams) {
      const seen = nothing();
      try {
        const answer = await responses.create({ ...write(question), stream: streams });
        if (streams) {
          for await (const event of answer) {
            if (event.type === "response.output_item.done") ITEMS[event.item.type](seen, event.item);
            if (ENDS.includes(event.type)) end(seen, event.response);
          }
        } else {
          for (const item of answer.output) ITEMS[item.type](seen, item);
          end(seen, answer);
        }
      } catch (error) {
        if (!(error instanceof OpenAI.APIError)) throw error;
        const fault = error instanceof OpenAI.InternalServerError ? "server" : "client";
        seen.failure = { status: error.status ?? null, message: error.message, fault };
      }
      return seen;
    },
    async leave(question, streams) {
      if (streams) {
        for await (const event of await responses.create({ ...write(question), stream: true })) {
          if (event.type === "response.output_text.delta") return;
        }
      }
      const error = await responses
        .create(write(question), { timeout: PATIENCE })
        .then(() => null, (thrown) => thrown);
      if (!(error instanceof OpenAI.APIConnectionTimeoutError)) throw error ?? new Error("it should have taken longer");
    },
  };
};

// --- @ai-sdk/openai --------------------------------------------------------------------------------------------------

// A stream's parts, and those of a whole answer.
const PARTS = {
  "text-delta": (seen, { text }) => (seen.text += text),
  text: (seen, { text }) => (seen.text += text),
  "reasoning-delta": (seen, { text }) => (seen.reasoning += text),
  reasoning: (seen, { text }) => (seen.reasoning += text),
  source: (seen, { filename }) => seen.files.push(...(filename.startsWith("cfile_") ? [] : [filename])),
  "tool-call": (seen, { toolName, input }) => {
    if (toolName === "code_interpreter") seen.codes.push(input.code);
    else seen.calls.push([toolName, input]);
  },
  "tool-result": (seen, { output }) => takeOutputs(seen, output.outputs),
};
const REASONS = { "tool-calls": "stop" }; // the calls are there; the status says no more

function close(seen, finishReason, usage) {
  seen.finish = REASONS[finishReason] ?? finishReason;
  seen.usage = { prompt: usage.inputTokens, completion: usage.outputTokens, total: usage.totalTokens };
}

const aiSdk = (require, url) => {
  const { APICallError, generateText, jsonSchema, streamText, tool } = require("ai");
  const provider = require("@ai-sdk/openai").createOpenAI({ apiKey: "any-key", baseURL: `${url}/v1` });
  const writeOut = ({ model, text, code, own, thoughts, file, function: described }) => ({
    model: provider.responses(model),
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text },
          ...(file ? [{ type: "file", data: Buffer.from(file.text), filename: file.name, mediaType: file.media_type }] : []),
        ],
      },
    ],
    tools: {
      ...(code ? { code_interpreter: provider.tools.codeInterpreter({}) } : {}),
      ...(own
        ? { [described.name]: tool({ description: described.description, inputSchema: jsonSchema(described.parameters) }) }
        : {}),
    },
    providerOptions: {
      openai: { passThroughUnsupportedFiles: true, ...(thoughts ? { forceReasoning: true, reasoningSummary: "auto" } : {}) },
    },
    maxRetries: 0,
  });
  const readError = (error) => {
    if (APICallError.isInstance(error) && error.statusCode) {
      return { status: error.statusCode, message: error.message, fault: error.statusCode < 500 ? "client" : "server" };
    }
    const told = error.response?.error ?? error.data?.response?.error ?? error.error ?? error;
    return { status: null, message: told.message ?? String(error), fault: null };
  };
  return {
    async ask(question, streams) {
      const seen = nothing();
      try {
        if (!streams) {
          const answer = await generateText(writeOut(question));
          for (const part of answer.content) PARTS[part.type]?.(seen, part);
          close(seen, answer.finishReason, answer.usage);
          return seen;
        }
        for await (const part of streamText({ ...writeOut(question), onError: () => {} }).fullStream) {
          PARTS[part.type]?.(seen, part);
          if (part.type === "finish") close(seen, part.finishReason, part.totalUsage);
          if (part.type === "error") throw part.error;
        }
      } catch (error) {
        seen.failure = readError(error);
      }
      return seen;
    },
    async leave(question, streams) {
      const stop = new AbortController();
      if (streams) {
        const { fullStream } = streamText({ ...writeOut(question), abortSignal: stop.signal, onError: () => {} });
        for await (const part of fullStream) if (part.type === "text-delta") stop.abort();
        return;
      }
      setTimeout(() => stop.abort(), PATIENCE);
      const asked = generateText({ ...writeOut(question), abortSignal: stop.signal });
      const error = await asked.then(() => null, (thrown) => thrown);
      if (!stop.signal.aborted) throw error ?? new Error("it should have taken longer");
    },
  };
};

export const sdks = { openai, "@ai-sdk/openai": aiSdk };
