"""The official JavaScript SDKs, unchanged, as judges: each file of js/ is run by Node against one server.

scripts/test installs the SDKs from js/package-lock.json. Without Node, or without them, these tests are skipped, and
the end of the run says so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from servers import Belljar

FOLDER = Path(__file__).parent / "js"
LEAST_NODE = 20
LEAST_TESTS = {  # by file: so that nothing is passed by testing nothing
    "groq-sdk": 39,
    "openai": 35,
    "ai-groq": 20,
    "ai-openai-compatible": 15,
    "google-genai": 30,
    "google-genai-interactions": 10,
    "ai-google": 15,
    "openai-responses": 30,
    "ai-openai": 20,
}
OWN = ("GROQ_", "OPENAI_", "NODE_", "GOOGLE_", "GEMINI_")  # what the SDKs read of an environment
SECONDS = 100.0
COUNT = re.compile(r"^# (\w+) (\d+)$", re.MULTILINE)  # the last lines of node:test in TAP


def reason_to_skip() -> str:
    """What is missing here; empty where nothing is."""
    if not shutil.which("node"):
        return f"there is no Node.js (>= {LEAST_NODE}) here"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    major = re.match(r"v(\d+)\.", version)
    if not major or int(major[1]) < LEAST_NODE:
        return f"this Node.js is too old ({version.strip()}; it must be {LEAST_NODE} or newer)"
    wanted = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))["dependencies"]
    missing = [name for name in wanted if not (FOLDER / "node_modules" / name).is_dir()]
    if missing:
        return f"{', '.join(missing)} not installed (scripts/test does so, where there is npm)"
    return ""


@pytest.fixture(scope="session")
def node() -> None:
    """Skips, so that it is seen."""
    reason = reason_to_skip()
    if reason:
        pytest.skip(f"NOT JUDGED: {reason}, so the JavaScript SDKs were not tried")


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("name", LEAST_TESTS)
def test_sdk(belljar: Belljar, impatient: str, name: str) -> None:
    urls = {
        "BELLJAR_URL": belljar.url,
        "BELLJAR_IMPATIENT_URL": impatient,
        "BELLJAR_KEYED_URL": belljar.listen(api_key=("right",)),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    done = subprocess.run(
        ["node", "--test-reporter=tap", f"{name}.test.mjs"],
        cwd=FOLDER,
        env=kept | urls,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    counts = {word: int(number) for word, number in COUNT.findall(done.stdout)}
    failures = "\n".join(re.findall(r"^not ok .*?^  \.\.\.$", done.stdout, re.MULTILINE | re.DOTALL)) or done.stdout
    assert done.returncode == 0, f"{failures}\n{done.stderr}"
    assert counts["pass"] == counts["tests"] >= LEAST_TESTS[name]
    belljar.until(lambda: belljar.in_use == belljar.upstream.playing == 0, 1.0)
