"""Kinds of sandbox, one file each; `BACKENDS` names them."""

from __future__ import annotations

from belljar.sandbox.backends.container import Container
from belljar.sandbox.backends.full import Full
from belljar.sandbox.backends.gvisor import Gvisor
from belljar.sandbox.forkserver import ForkServer

BACKENDS: dict[str, type[ForkServer]] = {backend.profile: backend for backend in (Full, Container, Gvisor)}
