"""What Gemini's Interactions API says of an answer: steps, in the order in which things happened."""

from __future__ import annotations

from conformance.says import Dialect, Fact, Said, Unsaid

DIALECT = Dialect(
    title="Gemini, Interactions (Google)",
    paths=(
        "`POST /{v1,v1beta,v1beta1,v1alpha}/interactions`",
        "the same below `…/projects/{p}/locations/{l}`",
    ),
    ask='`tools: [{"type": "code_execution"}]`',
    judges=("google-genai (client.interactions)",),
    javascript={"@google/genai": frozenset({Fact.LATE})},
    says={
        Fact.TEXT: Said(how="steps `model_output`, contents of type `text`"),
        Fact.REASONING: Said(how="steps `thought`, with `generation_config.thinking_summaries: auto`"),
        Fact.CODE: Said(how="steps `code_execution_call`, `arguments.code`, whole"),
        Fact.OUTPUT: Said(how="steps `code_execution_result`: `result`, a text or a list of contents"),
        Fact.OUTCOME: Said(how="`is_error` of the result", instead={"timeout": "error"}),
        Fact.IMAGE: Said(how="contents of type `image` in `result`; in a stream deltas of that step"),
        Fact.FILE_IN: Said(how="contents of type `document`, with `data` or the `uri` of an uploaded file"),
        Fact.FILE_OUT: Unsaid(instead="the model is told its name; what is to be seen, code must print or draw"),
        Fact.BESIDE: Said(how="`tools` holds both"),
        Fact.CALL: Said(how="steps `function_call`"),
        Fact.FINISH: Said(how="`status`: `completed`, `incomplete`, `requires_action`"),
        Fact.USAGE: Said(
            how="`usage`: `total_input_tokens` of the first turn, `total_tool_use_tokens` of all later ones, "
            "`total_output_tokens`, `total_thought_tokens`"
        ),
        Fact.BUDGET: Said(how="`status: completed`; the model answers with what is known"),
        Fact.EARLY: Said(how='`{"error": {"message", "code"}}` under the status'),
        Fact.LATE: Said(how="`event: error` with the same, without a status; nothing comes after it"),
    },
)
