"""What OpenAI's Responses say of an answer: output items, in the order in which things happened."""

from __future__ import annotations

from conformance.says import Dialect, Fact, Said

FAILED = "`response.failed` with `response.error`, without a status; nothing comes after it"

DIALECT = Dialect(
    title="Responses (OpenAI, Qwen)",
    paths=(
        "`POST /v1/responses`, `/openai/v1/responses`, `/api/openai/v1/responses`",
        "`/api/v2/apps/protocols/compatible-mode/v1/responses` (Qwen)",
    ),
    ask='`tools: [{"type": "code_interpreter", "container": {"type": "auto"}}]`; `container` may be left out',
    judges=("openai (client.responses)",),
    javascript={
        "openai": frozenset({Fact.LATE}),
        "@ai-sdk/openai": frozenset({Fact.LATE, Fact.OUTCOME}),
    },
    says={
        Fact.TEXT: Said(how="items `message`, contents of type `output_text`"),
        Fact.REASONING: Said(
            how="items `reasoning`: `summary` with `reasoning.summary` and on Qwen's path, else `content`"
        ),
        Fact.CODE: Said(how="items `code_interpreter_call`, `code`; in a stream by deltas"),
        Fact.OUTPUT: Said(how='`outputs` of type `logs`, with `include: ["code_interpreter_call.outputs"]`'),
        Fact.OUTCOME: Said(
            how="`status` of the call: an exception leaves it `completed`", instead={"error": "ok", "timeout": "failed"}
        ),
        Fact.IMAGE: Said(how="`outputs` of type `image`, a data URL; a file of the container as well"),
        Fact.FILE_IN: Said(how="contents of type `input_file`, `file_data` or an uploaded `file_id`; the container's"),
        Fact.FILE_OUT: Said(how="annotations `container_file_citation` of the text that names it"),
        Fact.BESIDE: Said(how="`tools` holds both; the container lives on until the call's output comes"),
        Fact.CALL: Said(how="items `function_call`, or `custom_tool_call`"),
        Fact.FINISH: Said(
            how="`status`: `completed`, `incomplete` with `incomplete_details`", instead={"calls": "stop"}
        ),
        Fact.USAGE: Said(how="`usage`: the sum of all turns; on Qwen's path `x_tools` counts executions"),
        Fact.BUDGET: Said(how="`status: completed`; the model answers with what is known"),
        Fact.EARLY: Said(how='`{"error": {"message", "type", "param", "code"}}` under the status'),
        Fact.LATE: Said(how=FAILED),
    },
)
