"""What chat completions says of an answer, as Groq serves it with code execution."""

from __future__ import annotations

from conformance.says import Dialect, Fact, Said, Unsaid

DIALECT = Dialect(
    title="Chat completions (Groq, OpenAI)",
    paths=(
        "`POST /openai/v1/chat/completions`",
        "`POST /v1/chat/completions`",
    ),
    ask='`tools: [{"type": "code_interpreter"}]`, or a compound system as model',
    judges=("groq", "openai"),
    javascript={"groq-sdk": frozenset(), "openai": frozenset()},
    says={
        Fact.TEXT: Said(how="`message.content`; in a stream `delta.content`"),
        Fact.REASONING: Said(how="`message.reasoning`; in a stream `delta.reasoning`"),
        Fact.CODE: Said(how="`executed_tools[].arguments`, sent again in a stream each time that there is more"),
        Fact.OUTPUT: Said(how="`executed_tools[].code_results[].text`; of compound systems `executed_tools[].output`"),
        Fact.OUTCOME: Unsaid(instead="the traceback, or the note of a time-out, ends the output"),
        Fact.IMAGE: Said(how="`executed_tools[].code_results[].png`"),
        Fact.FILE_IN: Said(how="a part of type `document` or `file`, or `documents`"),
        Fact.FILE_OUT: Unsaid(instead="the model is told its name; what is to be seen, code must print or draw"),
        Fact.BESIDE: Said(how="`tools` holds both; compound systems refuse it"),
        Fact.CALL: Said(how="`message.tool_calls[]`"),
        Fact.FINISH: Said(how="`finish_reason`: `stop`, `length`, `tool_calls`"),
        Fact.USAGE: Said(how="`usage`, in a stream `x_groq.usage`: the sum of all turns"),
        Fact.BUDGET: Said(how="`finish_reason: stop`; the model answers with what is known"),
        Fact.EARLY: Said(how='`{"error": {"message", "type", "code", "param"}}` under the status'),
        Fact.LATE: Said(how="`event: error`, with the status as `error.status_code`; nothing comes after it"),
    },
)
