// generateContent through @google/genai.

const OUTCOMES = { OUTCOME_OK: "ok", OUTCOME_FAILED: "error", OUTCOME_DEADLINE_EXCEEDED: "timeout" };
const FINISHES = { STOP: "stop", MAX_TOKENS: "length" };
const PATIENCE = 1000; // milliseconds

function write({ model, text, code, own, thoughts, file, function: described }, abortSignal) {
  const { parameters, ...named } = described;
  const declared = { functionDeclarations: [{ ...named, parametersJsonSchema: parameters }] };
  const tools = [...(code ? [{ codeExecution: {} }] : []), ...(own ? [declared] : [])];
  const data = file && { mimeType: file.media_type, data: Buffer.from(file.text).toString("base64") };
  const config = {
    abortSignal,
    ...(tools.length ? { tools } : {}),
    ...(thoughts ? { thinkingConfig: { includeThoughts: true } } : {}),
  };
  return { model, contents: [text, ...(data ? [{ inlineData: data }] : [])], config };
}

const nothing = () => ({
  ...{ text: "", reasoning: "", codes: [], outputs: [], outcomes: [], images: [], calls: [] },
  ...{ finish: "", usage: null, failure: null },
});

function take(seen, answer) {
  const usage = answer.usageMetadata;
  if (usage) {
    seen.usage = {
      prompt: (usage.promptTokenCount ?? 0) + (usage.toolUsePromptTokenCount ?? 0),
      completion: (usage.candidatesTokenCount ?? 0) + (usage.thoughtsTokenCount ?? 0),
      total: usage.totalTokenCount ?? 0,
    };
  }
  for (const candidate of answer.candidates ?? []) {
    if (candidate.finishReason) seen.finish = FINISHES[candidate.finishReason] ?? candidate.finishReason;
    for (const part of candidate.content?.parts ?? []) takePart(seen, part);
  }
}

function takePart(seen, part) {
  if (part.executableCode) seen.codes.push(part.executableCode.code);
  else if (part.codeExecutionResult) {
    seen.outcomes.push(OUTCOMES[part.codeExecutionResult.outcome]);
    seen.outputs.push(part.codeExecutionResult.output ?? "");
  } else if (part.inlineData) seen.images.push(part.inlineData.data);
  else if (part.functionCall) seen.calls.push([part.functionCall.name, part.functionCall.args]);
  else if (part.thought) seen.reasoning += part.text ?? "";
  else seen.text += part.text ?? "";
}

export const sdks = {
  "@google/genai": (require, url) => {
    const { GoogleGenAI, ApiError } = require("@google/genai");
    const { models } = new GoogleGenAI({ apiKey: "any-key", httpOptions: { baseUrl: url } });
    return {
      async ask(question, streams) {
        const seen = nothing();
        try {
          if (streams) for await (const chunk of await models.generateContentStream(write(question))) take(seen, chunk);
          else take(seen, await models.generateContent(write(question)));
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
          seen.failure = { status: error.status, message: error.message, fault: null }; // one class for all
        }
        if (seen.calls.length && seen.finish === "stop") seen.finish = "calls";
        return seen;
      },
      async leave(question, streams) {
        const stop = new AbortController();
        if (streams) {
          for await (const chunk of await models.generateContentStream(write(question, stop.signal))) {
            if (!chunk.text) continue;
            stop.abort();
            return;
          }
        }
        setTimeout(() => stop.abort(), PATIENCE);
        const error = await models.generateContent(write(question, stop.signal)).then(() => null, (thrown) => thrown);
        if (!stop.signal.aborted) throw error ?? new Error("it should have taken longer");
      },
    };
  },
};
