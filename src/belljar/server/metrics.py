"""What is counted: one Tally a request, and the Prometheus metrics of one server.

Promises: labels are bounded (a client cannot make new ones); nothing is global, so that several servers in one process
count apart. Not covered: what is in messages.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from belljar.errors import BelljarError, UpstreamError
from belljar.events import CallClosed, Event, Failed, Finished, TurnEnded
from belljar.execution import Execution

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_MODELS = 50  # names of models as labels; the next ones are OTHER
OTHER = "other"
GONE = "client_gone"
OK = "ok"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
BOUNDS = tuple(map(floatToGoString, (*SECONDS, float("inf"))))
POOL_STATES = ("ready", "in_use", "idle", "starting", "waiting", "max")
TOKENS = {  # a field of Usage -> its label
    "prompt_tokens": "prompt",
    "completion_tokens": "completion",
    "reasoning_tokens": "reasoning",
    "cached_tokens": "cached",
}


class Tally(msgspec.Struct):
    """What one request came to. `error` is the class of what ended it."""

    dialect: str = ""
    action: str = ""
    model: str = ""
    stream: bool = False
    outcome: str = OK
    turns: list[TurnEnded] = []
    executions: list[Execution] = []
    queue_seconds: float = 0.0
    error: BelljarError | None = None

    def see(self, event: Event) -> None:
        """Take in an event of the answer."""
        handler = _SEEN.get(type(event))
        if handler is not None:
            handler(self, event)

    def fail(self, error: BelljarError) -> None:
        """It ended with an error."""
        self.error = error
        self.outcome = error_word(error)

    def _on_turn(self, event: TurnEnded) -> None:
        self.turns.append(event)

    def _on_call(self, event: CallClosed) -> None:
        self.executions.append(event.execution)

    def _on_finish(self, event: Finished) -> None:
        self.queue_seconds = event.queue_seconds

    def _on_failure(self, event: Failed) -> None:
        self.fail(event.error)

    @property
    def tokens(self) -> tuple[int, int]:
        """Of prompts and of completions, as far as they were counted."""
        prompt = completion = 0
        for turn in self.turns:
            if turn.usage is not None:
                prompt += turn.usage.prompt_tokens
                completion += turn.usage.completion_tokens
        return prompt, completion


_SEEN: dict[type, Any] = {
    TurnEnded: Tally._on_turn,
    CallClosed: Tally._on_call,
    Finished: Tally._on_finish,
    Failed: Tally._on_failure,
}


def error_word(error: BelljarError) -> str:
    """An error's class as logs and metrics write it: UpstreamTimeout -> upstream_timeout."""
    name = type(error).__name__
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


class Metrics:
    """The metrics of one server."""

    def __init__(self, running: Callable[[], int], facts: Callable[[], Mapping[str, Any]]) -> None:
        """`running` says how many requests are being answered, `facts` what the pool holds."""
        self.registry = registry = CollectorRegistry(auto_describe=True)

        def counter(name: str, text: str, *labels: str) -> _Counters:
            registry.register(counters := _Counters(f"belljar_{name}", text, labels))
            return counters

        def histogram(name: str, text: str, *labels: str) -> _Histograms:
            registry.register(histograms := _Histograms(f"belljar_{name}", text, labels))
            return histograms

        self._requests = counter("requests", "Requests answered.", "dialect", "action", "status", "stream")
        self._seconds = histogram("request_seconds", "From a request's first byte to the end.", "dialect", "stream")
        self._first = histogram("first_byte_seconds", "To the first byte of the response.", "dialect", "stream")
        self._turns = counter("turns", "Turns of models.", "model", "finish")
        self._tokens = counter("tokens", "Tokens, as upstreams counted them.", "model", "kind")
        self._executions = counter("executions", "Executions, by how they ended.", "outcome")
        self._execution = histogram("execution_seconds", "Of one execution.")
        self._wait = histogram("sandbox_wait_seconds", "That a request with executions waited for a sandbox.")
        self._upstream = counter("upstream_errors", "Answers that an upstream's failure ended.", "error")
        self._gone = counter("clients_gone", "Answers whose client went away.")
        Gauge("belljar_requests_in_flight", "Requests being answered.", registry=registry).set_function(running)
        registry.register(_PoolCollector(facts))
        ProcessCollector(registry=registry)
        self._models: set[str] = set()

    def record(self, tally: Tally, status: int, seconds: float, first_byte: float | None) -> None:
        """Count a request that is over. Times in seconds from its start."""
        stream = "true" if tally.stream else "false"
        self._requests.add(1, tally.dialect, tally.action, str(status), stream)
        if tally.action == "generate":
            self._seconds.observe(seconds, tally.dialect, stream)
            if first_byte is not None:
                self._first.observe(first_byte, tally.dialect, stream)
        if tally.outcome == GONE:
            self._gone.add(1)
        self.record_answer(tally)

    def record_answer(self, tally: Tally) -> None:
        """Count what an answer that is over has cost."""
        for turn in tally.turns:
            self._record_turn(turn)
        for execution in tally.executions:
            self._executions.add(1, execution.outcome.value)
            self._execution.observe(execution.duration)
        if tally.executions:
            self._wait.observe(tally.queue_seconds)
        if isinstance(tally.error, UpstreamError):
            self._upstream.add(1, error_word(tally.error))

    def write(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)

    def _record_turn(self, turn: TurnEnded) -> None:
        model = self._label(turn.model)
        self._turns.add(1, model, turn.finish.value)
        if turn.usage is not None:
            for field, kind in TOKENS.items():
                if amount := getattr(turn.usage, field):
                    self._tokens.add(amount, model, kind)

    def _label(self, model: str) -> str:
        if model not in self._models:
            if len(self._models) >= MAX_MODELS:
                return OTHER
            self._models.add(model)
        return model


class _Counters(Collector):
    """A counter, one for each combination of labels. Of plain numbers: prometheus_client's own, made for threads, cost
    several times as much. So they are for one event loop.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._about = name, text, labels
        self._counts: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}

    def add(self, amount: float, *labels: str) -> None:
        self._counts[labels] = self._counts.get(labels, 0.0) + amount

    def collect(self) -> list[Metric]:
        name, text, labels = self._about
        family = CounterMetricFamily(name, text, labels=labels)
        for values, count in self._counts.items():
            family.add_metric(values, count)
        return [family]


class _Series:
    """One histogram: how many fell into each bucket (the last one has no bound), and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.sum = 0.0


class _Histograms(Collector):
    """The same for a histogram of seconds."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._about = name, text, labels
        self._series: dict[tuple[str, ...], _Series] = {} if labels else {(): _Series()}

    def observe(self, seconds: float, *labels: str) -> None:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series()
        series.counts[bisect_left(SECONDS, seconds)] += 1
        series.sum += seconds

    def collect(self) -> list[Metric]:
        name, text, labels = self._about
        family = HistogramMetricFamily(name, text, labels=labels)
        for values, series in self._series.items():
            buckets = list(zip(BOUNDS, accumulate(series.counts), strict=True))
            family.add_metric(values, buckets, series.sum)
        return [family]


class _PoolCollector(Collector):
    """What the pool holds, asked when somebody looks."""

    def __init__(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        self._facts = facts

    def collect(self) -> list[Metric]:
        pool = GaugeMetricFamily("belljar_sandboxes", "Sandboxes, and requests that wait for one.", labels=["state"])
        facts = self._facts()
        for state in POOL_STATES:
            if isinstance(facts.get(state), int):
                pool.add_metric([state], facts[state])
        return [pool]
