"""Every request of Groq's guides on code execution and on compound systems, by every official way to send it.

From Python and by curl, streaming and not: what the guides read is there, in the guides' shape.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from sdks.script import BEHIND, GUIDES
from sdks.ways import WAYS, Seen
from servers import Belljar

SHAPES = {"python": {"string": "", "name": ""}, "function": {"name": "python"}}  # by `type`: what is always so


@pytest.mark.parametrize("guide", GUIDES, ids=[guide["name"] for guide in GUIDES])
@pytest.mark.parametrize("way", WAYS)
def test_guide(belljar: Belljar, way: str, guide: dict[str, Any]) -> None:
    if way.startswith("curl") and not shutil.which("curl"):
        pytest.skip("NOT JUDGED: there is no curl here, so the guides' curl commands were not tried")
    seen = WAYS[way](belljar.url, guide["request"], guide.get("headers", {}))
    assert [part for part in guide["content"] if part not in seen.content] == [], seen.content
    assert [part for part in guide["reasoning"] if part not in seen.reasoning] == [], seen.reasoning
    assert seen.finish == "stop"
    assert seen.model == guide["request"]["model"]
    assert seen.usage["total_tokens"] == seen.usage["prompt_tokens"] + seen.usage["completion_tokens"] > 0
    assert len(seen.ids) == 1
    if guide["tool"] is None:
        assert seen.tools == {}
    else:
        check_tool(seen, guide["tool"])
    if guide["request"]["model"].startswith("groq/"):
        check_breakdown(seen, BEHIND[guide["request"]["model"]])


def check_tool(seen: Seen, expected: dict[str, Any]) -> None:
    """One execution, in the shape that the guides print."""
    assert list(seen.tools) == [0]
    tool = seen.tools[0]
    assert tool["index"] == 0
    assert tool["type"] == expected["type"]
    assert SHAPES[tool["type"]].items() <= tool.items()
    if tool["type"] == "python":
        assert json.loads(tool["arguments"]) == {"code": expected["code"]}
        assert tool["search_results"] == {"results": []}
        output = tool["output"]
    else:
        assert tool["arguments"] == expected["code"]
        assert tool["search_results"] == {"results": None}
        assert "output" not in tool
        [result] = tool["code_results"]
        output = result["text"]
    assert output == expected.get("output", output)
    assert [part for part in expected.get("output_holds", []) if part not in output] == []


def check_breakdown(seen: Seen, model: str) -> None:
    """The cost of every model behind a compound system; together they are the usage."""
    models = seen.breakdown["models"]
    assert [entry["model"] for entry in models] == [model]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert sum(entry["usage"][name] for entry in models) == seen.usage[name]
    assert all("total_time" in entry["usage"] for entry in models)
