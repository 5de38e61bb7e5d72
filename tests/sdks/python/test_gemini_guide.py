"""Every snippet of Google's guide to code execution, as its readers have it; only the address is another.

https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/code-execution: the SDK for Python, REST with curl in
both kinds of answer, and REST in a chat. The shell's snippets are run by a shell.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belljar.scripted import Turn
from belljar.scripted.scripts import Script, calls_made
from sdks.script import last_question, may_call, run_python, tool_outputs
from servers import Belljar, start_belljar

FIBONACCI = """\
def fibonacci(n):
    if n <= 0:
        return 0
    elif n == 1:
        return 1
    else:
        a, b = 0, 1
        for _ in range(2, n + 1):
            a, b = b, a + b
        return b

fib_20 = fibonacci(20)
print(f'{fib_20=}')
"""
TOTAL = "total = 0\nfor i in range(1, 11):\n    total += i\nprint(f'{total=}')\n"
PRIMES = "import sympy\nprint(sum(sympy.prime(n) for n in range(1, 51)))\n"
REPLIES = {  # part of the question -> the code, and what is said of its output
    "20th fibonacci": (FIBONACCI, "The 20th is {output}; the nearest palindrome is 6776."),
    "first 10": (TOTAL, "The sum of the first 10 positive numbers is {output}."),
    "first 50 prime": (PRIMES, "The sum of the first 50 prime numbers is {output}."),
}


def reply_to(body: Any) -> Turn:
    """A turn of a model that knows the guide's questions."""
    code, answer = next(reply for part, reply in REPLIES.items() if part in last_question(body))
    if not calls_made(body) and may_call(body, "python"):
        return Turn(text="Okay, I can do that.\n\n", calls=(run_python(code),))
    return Turn(text=answer.format(output=tool_outputs(body)[-1]))


MODELS: Script = {"gemini-2.0-flash-001": reply_to}


@pytest.fixture(scope="module")
def guide(no_proxy: None) -> Iterator[Belljar]:
    """A server with the guide's model."""
    with start_belljar(MODELS, upstream={"retries": 0}) as running:
        yield running


# --- Python -----------------------------------------------------------------------------------------------------------

MODES: dict[str, dict[str, str]] = {  # what the environment says, as the guide and the SDK's reference have it
    "Gemini": {"GOOGLE_API_KEY": "any-key", "GOOGLE_GEMINI_BASE_URL": "{url}"},
    "Gemini, the other key": {"GEMINI_API_KEY": "any-key", "GOOGLE_GEMINI_BASE_URL": "{url}"},
    "Vertex AI": {
        "GOOGLE_API_KEY": "any-key",
        "GOOGLE_GENAI_USE_VERTEXAI": "True",
        "GOOGLE_GEMINI_BASE_URL": "{url}",  # the one that is read where the mode comes from the environment
    },
}
NAMES = ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GEMINI_BASE_URL",
         "GOOGLE_VERTEX_BASE_URL", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION")  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_python(guide: Belljar, mode: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in MODES[mode].items():
        monkeypatch.setenv(name, value.format(url=guide.url))

    from google import genai
    from google.genai.types import (
        GenerateContentConfig,
        HttpOptions,
        Tool,
        ToolCodeExecution,
    )

    client = genai.Client(http_options=HttpOptions(api_version="v1"))
    model_id = "gemini-2.0-flash-001"

    code_execution_tool = Tool(code_execution=ToolCodeExecution())
    response = client.models.generate_content(
        model=model_id,
        contents="Calculate 20th fibonacci number. Then find the nearest palindrome to it.",
        config=GenerateContentConfig(
            tools=[code_execution_tool],
            temperature=0,
        ),
    )
    print("# Code:")
    print(response.executable_code)
    print("# Outcome:")
    print(response.code_execution_result)

    client.close()
    assert capsys.readouterr().out == f"# Code:\n{FIBONACCI}\n# Outcome:\nfib_20=6765\n\n"
    assert response.text == "Okay, I can do that.\n\nThe 20th is fib_20=6765; the nearest palindrome is 6776."


# --- REST -------------------------------------------------------------------------------------------------------------

REQUEST = """\
cat > request.json << 'EOF'
{
 "tools": [{'codeExecution': {}}],
 "contents": {
 "role": "ROLE",
 "parts": { "text": "TEXT" }
 },
}
EOF
"""
ASK = """\
gcloud() { echo token; }
curl -sS -X POST \\
 -H "Authorization: Bearer $(gcloud auth print-access-token)" \\
 -H "Content-Type: application/json; charset=utf-8" \\
 -d @request.json \\
 "https://LOCATION-aiplatform.googleapis.com/v1/projects/PROJECT_ID/locations/LOCATION/publishers/google/models/MODEL_ID:GENERATE_RESPONSE_METHOD"
"""
CHAT = r"""
gcloud() { echo token; }
curl -sS -X POST \
-H "Authorization: Bearer $(gcloud auth print-access-token)" \
-H "Content-Type: application/json" \
https://aiplatform.googleapis.com/v1/projects/test-project/locations/global/publishers/google/models/gemini-2.0-flash-001:generateContent -d \
$'{
 "tools": [{'code_execution': {}}],
 "contents": [
 {
 "role": "user",
 "parts": {
 "text": "Can you print \"Hello world!\"?"
 }
 },
 {
 "role": "model",
 "parts": [
 {
 "text": ""
 },
 {
 "executable_code": {
 "language": "PYTHON",
 "code": "\nprint(\"hello world!\")\n"
 }
 },
 {
 "code_execution_result": {
 "outcome": "OUTCOME_OK",
 "output": "hello world!\n"
 }
 },
 {
 "text": "I have printed \"hello world!\" using the provided python code block. \n"
 }
 ],
 },
 {
 "role": "user",
 "parts": {
 "text": "What is the sum of the first 50 prime numbers? Generate and run code for the calculation, and make sure you get all 50."
 }
 }
 ]
 }'
"""  # noqa: E501
FILLED = {
    "PROJECT_ID": "some-project",
    "MODEL_ID": "gemini-2.0-flash-001",
    "https://LOCATION-aiplatform.googleapis.com": "{url}",
    "https://aiplatform.googleapis.com": "{url}",
    "LOCATION": "us-central1",
    "TEXT": "What is the sum of the first 10 positive integers? Use code.",
}


def shell(script: str, folder: Path, url: str, **more: str) -> Any:
    """What a script prints, its placeholders filled in, as JSON."""
    for name, value in (FILLED | more).items():
        script = script.replace(name, value.format(url=url))
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_sum(parts: list[Any]) -> None:
    """The answer to the guide's first question by REST."""
    texts = "".join(part.get("text", "") for part in parts)
    [code] = [part["executableCode"] for part in parts if "executableCode" in part]
    [result] = [part["codeExecutionResult"] for part in parts if "codeExecutionResult" in part]
    assert (code["language"], code["code"]) == ("PYTHON", TOTAL)
    assert (result["outcome"], result["output"]) == ("OUTCOME_OK", "total=55\n")
    assert texts == "Okay, I can do that.\n\nThe sum of the first 10 positive numbers is total=55."


@pytest.mark.parametrize("role", ["USER", "user"])
def test_rest(guide: Belljar, role: str, tmp_path: Path) -> None:
    answer = shell(REQUEST + ASK, tmp_path, guide.url, ROLE=role, GENERATE_RESPONSE_METHOD="generateContent")
    [candidate] = answer["candidates"]
    check_sum(candidate["content"]["parts"])
    assert (candidate["content"]["role"], candidate["finishReason"]) == ("model", "STOP")
    assert answer["modelVersion"] == "gemini-2.0-flash-001"
    usage = answer["usageMetadata"]
    counted = ("promptTokenCount", "candidatesTokenCount", "toolUsePromptTokenCount")
    assert usage["totalTokenCount"] == sum(usage[name] for name in counted)
    assert usage["trafficType"] == "ON_DEMAND"
    assert answer["createTime"]
    assert answer["responseId"]


def test_rest_streaming(guide: Belljar, tmp_path: Path) -> None:
    method = "streamGenerateContent"
    chunks = shell(REQUEST + ASK, tmp_path, guide.url, ROLE="USER", GENERATE_RESPONSE_METHOD=method)
    check_sum([part for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]])
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


def test_rest_in_a_chat(guide: Belljar, tmp_path: Path) -> None:
    answer = shell(CHAT, tmp_path, guide.url)
    texts = [part.get("text", "") for part in answer["candidates"][0]["content"]["parts"]]
    assert texts[-1] == "The sum of the first 50 prime numbers is 5117."
    sent = [message for message in guide.upstream.turns[-1]["messages"] if message["role"] != "system"]
    assert [message["role"] for message in sent] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
        "tool",
    ]
    assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"])["code"] == '\nprint("hello world!")\n'
    assert sent[2]["content"] == "hello world!"
