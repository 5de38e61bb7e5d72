"""An upstream without a model: for tests and benchmarks, quick, and with bad manners where a script says so."""

from belljar.scripted.scripts import Script, code_then, echo, fails, plain, thinks
from belljar.scripted.server import Received, ScriptedUpstream, unused_url
from belljar.scripted.turns import Counts, Fault, FunctionCall, Turn

__all__ = [
    "Counts",
    "Fault",
    "FunctionCall",
    "Received",
    "Script",
    "ScriptedUpstream",
    "Turn",
    "code_then",
    "echo",
    "fails",
    "plain",
    "thinks",
    "unused_url",
]
