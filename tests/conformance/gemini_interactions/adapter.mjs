// The Interactions API through @google/genai. What a stream says is merged here, delta by delta.

const FINISHES = { completed: "stop", incomplete: "length", requires_action: "calls" };
const PATIENCE = 1000; // milliseconds

function write({ model, text, code, own, thoughts, file, function: described }) {
  const tools = [...(code ? [{ type: "code_execution" }] : []), ...(own ? [{ type: "function", ...described }] : [])];
  const data = file && Buffer.from(file.text).toString("base64");
  return {
    model,
    input: file ? [{ type: "text", text }, { type: "document", mime_type: file.media_type, data }] : text,
    ...(tools.length ? { tools } : {}),
    ...(thoughts ? { generation_config: { thinking_summaries: "auto" } } : {}),
  };
}

const DELTAS = {
  text: (step, delta) => (step.content ??= []).push(delta),
  thought_summary: (step, delta) => (step.summary ??= []).push(delta.content),
  code_execution_call: (step, delta) => (step.arguments = delta.arguments),
  code_execution_result: (step, delta) => {
    step.result = [{ type: "text", text: delta.result }];
    step.is_error = delta.is_error;
  },
  image: (step, delta) => step.result.push(delta),
  arguments_delta: (step, delta) => (step.written = (step.written ?? "") + delta.arguments),
};

const words = (contents) =>
  typeof contents === "string"
    ? contents
    : (contents ?? []).filter(({ type }) => type === "text").map(({ text }) => text).join("");

const STEPS = {
  model_output: (seen, step) => (seen.text += words(step.content)),
  thought: (seen, step) => (seen.reasoning += words(step.summary)),
  code_execution_call: (seen, step) => seen.codes.push(step.arguments.code),
  code_execution_result: (seen, { result, is_error }) => {
    seen.outputs.push(words(result));
    seen.outcomes.push(is_error ? "error" : "ok");
    if (typeof result === "string") return;
    seen.images.push(...result.filter(({ type }) => type === "image").map(({ data }) => data));
  },
  function_call: (seen, step) =>
    seen.calls.push([step.name, step.written === undefined ? step.arguments : JSON.parse(step.written)]),
};

function end(seen, { status, usage }) {
  seen.finish = FINISHES[status] ?? status;
  if (!usage) return;
  seen.usage = {
    prompt: usage.total_input_tokens + (usage.total_tool_use_tokens ?? 0),
    completion: usage.total_output_tokens + (usage.total_thought_tokens ?? 0),
    total: usage.total_tokens,
  };
}

async function gather(seen, stream) {
  const steps = new Map();
  try {
    for await (const event of stream) {
      if (event.event_type === "step.start") steps.set(event.index, { ...event.step });
      if (event.event_type === "step.delta") DELTAS[event.delta.type](steps.get(event.index), event.delta);
      if (event.event_type === "interaction.completed") end(seen, event.interaction);
      if (event.event_type === "error") {
        seen.failure = { status: null, message: event.error.message, fault: null };
      }
    }
  } finally {
    for (const step of steps.values()) STEPS[step.type](seen, step);
  }
}

export const sdks = {
  "@google/genai": (require, url) => {
    const { GoogleGenAI } = require("@google/genai");
    const retries = { strategy: "none" };
    const { interactions } = new GoogleGenAI({ apiKey: "any-key", httpOptions: { baseUrl: url } });
    return {
      async ask(question, streams) {
        const seen = { text: "", reasoning: "", codes: [], outputs: [], outcomes: [], images: [], calls: [] };
        Object.assign(seen, { finish: "", usage: null, failure: null });
        try {
          const answer = await interactions.create({ ...write(question), stream: streams }, { retries });
          if (streams) await gather(seen, answer);
          else {
            for (const step of answer.steps ?? []) STEPS[step.type](seen, step);
            end(seen, answer);
          }
        } catch (error) {
          if (!error.status) throw error;
          const fault = error.status < 500 ? "client" : "server";
          seen.failure = { status: error.status, message: error.message, fault };
        }
        return seen;
      },
      async leave(question, streams) {
        if (streams) {
          for await (const event of await interactions.create({ ...write(question), stream: true })) {
            if (event.delta?.type === "text") return;
          }
        }
        const stop = new AbortController();
        setTimeout(() => stop.abort(), PATIENCE);
        const options = { retries, signal: stop.signal };
        const error = await interactions.create(write(question), options).then(() => null, (thrown) => thrown);
        if (!stop.signal.aborted) throw error ?? new Error("it should have taken longer");
      },
    };
  },
};
