"""What Alibaba's compatible mode says of an answer: chat completions, without the code and what it gave."""

from __future__ import annotations

from conformance.says import Dialect, Fact, Refused, Said, Unsaid

DIALECT = Dialect(
    title="Compatible mode (Qwen)",
    paths=("`POST /compatible-mode/v1/chat/completions`",),
    ask="`enable_code_interpreter: true` beside the messages",
    judges=("openai",),
    javascript={"openai": frozenset({Fact.LATE})},
    says={
        Fact.TEXT: Said(how="`message.content`; in a stream `delta.content`"),
        Fact.REASONING: Said(how="`reasoning_content`, with `enable_thinking: true`"),
        Fact.CODE: Unsaid(instead="nothing is shown while code runs; the answer is what is seen"),
        Fact.OUTPUT: Unsaid(instead="the model is told of it"),
        Fact.OUTCOME: Unsaid(instead="the model is told of it"),
        Fact.IMAGE: Unsaid(instead="the model is told that it was shown, or sees it"),
        Fact.FILE_IN: Said(how="a part of type `file`, as in chat completions"),
        Fact.FILE_OUT: Unsaid(instead="the model is told its name"),
        Fact.BESIDE: Refused(status=400, part="mutually exclusive", how="`invalid_parameter_error`"),
        Fact.CALL: Said(how="`message.tool_calls[]`"),
        Fact.FINISH: Said(how="`finish_reason`: `stop`, `length`, `tool_calls`"),
        Fact.USAGE: Said(
            how="`usage`, in a stream with `stream_options.include_usage`: the sum of all turns; "
            "`usage.plugins.code_interpreter.count` executions"
        ),
        Fact.BUDGET: Said(how="`finish_reason: stop`; the model answers with what is known"),
        Fact.EARLY: Said(how='`{"error": {"message", "type", "code", "param"}}` under the status'),
        Fact.LATE: Said(how='`data: {"error": …}`, without a status; nothing comes after it'),
    },
)
