"""What Gemini's generateContent says of an answer: parts, in the order in which things happened."""

from __future__ import annotations

from conformance.says import Dialect, Fact, Said, Unsaid

DIALECT = Dialect(
    title="Gemini, generateContent (Google)",
    paths=(
        "`POST /{v1,v1beta,v1beta1,v1alpha}/models/{model}:generateContent`",
        "`POST …:streamGenerateContent`",
        "the same below `…/publishers/google` and `…/projects/{p}/locations/{l}/publishers/google`",
    ),
    ask='`tools: [{"codeExecution": {}}]`, or `code_execution`',
    judges=("google-genai (Gemini, Vertex express, Vertex project)",),
    javascript={"@google/genai": frozenset()},
    says={
        Fact.TEXT: Said(how="parts with `text`"),
        Fact.REASONING: Said(how="parts with `text` and `thought: true`, with `thinkingConfig.includeThoughts`"),
        Fact.CODE: Said(how="parts `executableCode.code`, whole"),
        Fact.OUTPUT: Said(how="parts `codeExecutionResult.output`"),
        Fact.OUTCOME: Said(
            how="`codeExecutionResult.outcome`: `OUTCOME_OK`, `OUTCOME_FAILED`, `OUTCOME_DEADLINE_EXCEEDED`"
        ),
        Fact.IMAGE: Said(how="parts `inlineData` of type `image/png` after the result"),
        Fact.FILE_IN: Said(how="parts `inlineData`; `fileData` with the URI of an uploaded file"),
        Fact.FILE_OUT: Unsaid(instead="the model is told its name; what is to be seen, code must print or draw"),
        Fact.BESIDE: Said(how="`tools` holds `codeExecution` and `functionDeclarations`"),
        Fact.CALL: Said(how="parts `functionCall`"),
        Fact.FINISH: Said(how="`finishReason`: `STOP`, also where functions are called, `MAX_TOKENS`"),
        Fact.USAGE: Said(
            how="`usageMetadata`: `promptTokenCount` of the first turn, `toolUsePromptTokenCount` of all later ones, "
            "`candidatesTokenCount`, `thoughtsTokenCount`"
        ),
        Fact.BUDGET: Said(how="`finishReason: STOP`; the model answers with what is known"),
        Fact.EARLY: Said(how='`{"error": {"code", "message", "status", "details"}}` under the status'),
        Fact.LATE: Said(how='`data: {"error": …}`; nothing comes after it'),
    },
)
