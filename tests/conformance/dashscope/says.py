"""What DashScope's own format says of an answer: the code, and nothing of what it gave."""

from __future__ import annotations

from conformance.says import Dialect, Fact, Refused, Said, Unsaid

DIALECT = Dialect(
    title="DashScope (Qwen)",
    paths=(
        "`POST /api/v1/services/aigc/text-generation/generation`",
        "`POST /api/v1/services/aigc/multimodal-generation/generation`",
    ),
    ask="`parameters.enable_code_interpreter: true`",
    judges=("dashscope (Generation, MultiModalConversation)", "dashscope (Client)"),
    says={
        Fact.TEXT: Said(how="`output.choices[].message.content`; with `result_format: text`, `output.text`"),
        Fact.REASONING: Said(how="`output.choices[].message.reasoning_content`, with `enable_thinking: true`"),
        Fact.CODE: Said(how="`output.tool_info[].code_interpreter.code`, in each frame after the execution"),
        Fact.OUTPUT: Unsaid(instead="the model is told of it, and its answer is what is seen"),
        Fact.OUTCOME: Unsaid(instead="the model is told of it"),
        Fact.IMAGE: Unsaid(instead="the model is told that it was shown, or sees it"),
        Fact.FILE_IN: Said(
            how='parts `{"file": data URL, "filename": …}` of a message; not the vendor\'s, and not by its `Client`'
        ),
        Fact.FILE_OUT: Unsaid(instead="the model is told its name"),
        Fact.BESIDE: Refused(status=400, part="mutually exclusive", how="`InvalidParameter`"),
        Fact.CALL: Said(how="`output.choices[].message.tool_calls[]`"),
        Fact.FINISH: Said(how="`finish_reason`: `stop`, `length`, `tool_calls`; until then the text `null`"),
        Fact.USAGE: Said(how="`usage`: the sum of all turns; `usage.plugins.code_interpreter.count` executions"),
        Fact.BUDGET: Said(how="`finish_reason: stop`; the model answers with what is known"),
        Fact.EARLY: Said(how="`code`, `message` under the status; `request_id` in the header `x-request-id`, too"),
        Fact.LATE: Said(
            how="a frame `event:error` with `code`, `message`, `request_id`, and `status:`; nothing comes after it"
        ),
    },
)
