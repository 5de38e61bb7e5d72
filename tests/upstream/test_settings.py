"""What can be said of upstreams and models, and what is refused."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from belljar.upstream.client import Timeouts
from belljar.upstream.settings import (
    ModelSettings,
    UpstreamSettings,
    check_url,
    models_of,
    read_models,
    read_upstreams,
    upstreams_of,
)

KEY = "sk-secret-0123456789"

URLS = {
    "http://127.0.0.1:8000/v1": "http://127.0.0.1:8000/v1",
    "http://127.0.0.1:8000/v1/": "http://127.0.0.1:8000/v1",
    " http://gpu:8000 ": "http://gpu:8000/v1",
    "http://gpu:8000/": "http://gpu:8000/v1",
    "https://api.groq.com/openai/v1/chat/completions": "https://api.groq.com/openai/v1",
    "https://api.groq.com/openai/v1/models/": "https://api.groq.com/openai/v1",
    "http://[::1]:8000/v1": "http://[::1]:8000/v1",
    "https://x.example/openai?api-version=1": "https://x.example/openai?api-version=1",
}


@pytest.mark.parametrize("url", URLS)
def test_urls_have_one_form(url: str) -> None:
    assert check_url(url, "url") == URLS[url]
    assert check_url(URLS[url], "url") == URLS[url]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "no URL"),
        ("gpu:8000", "no URL"),
        ("localhost:8000/v1", "no URL"),
        ("ftp://gpu/v1", "no URL"),
        ("http:///v1", "no URL"),
        (f"http://user:{KEY}@gpu/v1", "user name or password"),
        ("http://gpu/v1#x", "fragment"),
        ("http://gpu:99999/v1", "port"),
        ("http://gpu:x/v1", "port"),
        ("http://[::1/v1", "no URL"),
    ],
)
def test_urls_that_are_none(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^place: .*{message}") as caught:
        check_url(url, "place")
    assert KEY not in str(caught.value)


def test_upstreams_are_read_from_tables() -> None:
    text = """
        [upstreams.local]
        url = "http://127.0.0.1:8000"
        tools = "prompted"
        images = true
        default = "qwen"
        retries = 0
        connect = 1
        turn = 60.5

        [upstreams.hosted]
        url = "https://api.groq.com/openai/v1"
        key_env = "MY_KEY"
    """
    local, hosted = read_upstreams(tomllib.loads(text)["upstreams"], {"MY_KEY": KEY})
    assert local == UpstreamSettings(
        name="local",
        url="http://127.0.0.1:8000/v1",
        tools="prompted",
        images=True,
        default="qwen",
        retries=0,
        timeouts=Timeouts(connect=1, turn=60.5),
    )
    assert (hosted.name, hosted.key, hosted.host) == ("hosted", KEY, "api.groq.com")
    assert KEY not in repr(hosted)


def test_models_are_read_from_tables() -> None:
    text = """
        [models."groq/compound"]
        upstream = "local"
        model = "Qwen/Qwen3-32B"
        answering = "small"

        [models.small]
        tools = "native"
        images = false
        thinks = true
    """
    assert read_models(tomllib.loads(text)["models"]) == [
        ModelSettings(id="groq/compound", upstream="local", model="Qwen/Qwen3-32B", answering="small"),
        ModelSettings(id="small", tools="native", images=False, thinks=True),
    ]


# What it is: the tables, and what is said of them.
UPSTREAM_FAULTS: dict[str, tuple[Any, str]] = {
    "no table": ("x", r"upstreams: it must hold tables"),
    "no table inside": ({"a": "http://x"}, r"upstreams\.a: it must be a table"),
    "no url": ({"a": {}}, r"upstreams\.a: it has no url"),
    "a bad url": ({"a": {"url": "x"}}, r"upstreams\.a\.url: 'x' is no URL"),
    "an unknown setting": (
        {"a": {"url": "http://x", "keyenv": "X"}},
        r"unknown setting 'keyenv'; did you mean key_env\?",
    ),
    "a strange setting": ({"a": {"url": "http://x", "zzz": 1}}, r"unknown setting 'zzz'; there are url, key"),
    "a name": ({"a": {"url": "http://x", "name": "b"}}, r"unknown setting 'name'"),
    "a wrong type": ({"a": {"url": 5}}, r"upstreams\.a\.url: it must be a text"),
    "a truth as number": ({"a": {"url": "http://x", "connect": True}}, r"connect: it must be a number of seconds"),
    "a wrong word": ({"a": {"url": "http://x", "tools": "maybe"}}, r"tools: 'maybe' is none of auto, native, prompted"),
    "no time": ({"a": {"url": "http://x", "idle": 0}}, r"upstreams\.a\.idle: it must be above 0"),
    "retries": ({"a": {"url": "http://x", "retries": -1}}, r"retries: it must not be below 0"),
    "both keys": ({"a": {"url": "http://x", "key": "a", "key_env": "B"}}, r"both key and key_env"),
    "a variable that is not set": ({"a": {"url": "http://x", "key_env": "NO_KEY"}}, r"the environment has no NO_KEY"),
    "a key with a line break": (
        {"a": {"url": "http://x", "key": f"{KEY}\n"}},
        r"upstreams\.a\.key: it holds a character",
    ),
    "an empty key": ({"a": {"url": "http://x", "key": ""}}, r"upstreams\.a\.key"),
    "a name with a slash": ({"a/b": {"url": "http://x"}}, r"'a/b' is no name"),
}


@pytest.mark.parametrize("case", UPSTREAM_FAULTS)
def test_upstreams_that_cannot_be(case: str) -> None:
    tables, message = UPSTREAM_FAULTS[case]
    with pytest.raises(ValueError, match=message) as caught:
        read_upstreams(tables, {"EMPTY": ""})
    assert KEY not in str(caught.value)


MODEL_FAULTS: dict[str, tuple[Any, str]] = {
    "no table": ([], r"models: it must hold tables"),
    "no table inside": ({"a": "b"}, r"models\.a: it must be a table"),
    "an unknown setting": ({"a": {"modl": "b"}}, r"unknown setting 'modl'; did you mean model\?"),
    "an id": ({"a": {"id": "b"}}, r"unknown setting 'id'"),
    "a wrong type": ({"a": {"images": "yes"}}, r"images: it must be true or false"),
    "a wrong word": ({"a": {"tools": "x"}}, r'models\."a"\.tools: \'x\' is none of'),
    "an empty model": ({"a": {"model": ""}}, r'models\."a"\.model: it is empty'),
    "an empty name": ({" ": {"model": "b"}}, r"a model needs a name"),
}


@pytest.mark.parametrize("case", MODEL_FAULTS)
def test_models_that_cannot_be(case: str) -> None:
    tables, message = MODEL_FAULTS[case]
    with pytest.raises(ValueError, match=message):
        read_models(tables)


def test_upstreams_by_url_are_named_after_their_hosts() -> None:
    made = upstreams_of(["http://gpu:8000", "http://gpu:8000/v2", "https://api.groq.com/openai/v1"], KEY)
    assert [settings.name for settings in made] == ["gpu:8000", "gpu:8000-2", "api.groq.com"]
    assert {settings.key for settings in made} == {KEY}
    assert [settings.name for settings in upstreams_of(["http://[::1]:8000/v1"])] == ["::1-:8000"]
    assert upstreams_of([]) == []


def test_models_by_map() -> None:
    assert models_of(["a=b/c=d"]) == [ModelSettings(id="a", model="b/c=d")]
    for text in ("a", "a=", "=b", ""):
        with pytest.raises(ValueError, match="NAME=MODEL"):
            models_of([text])
