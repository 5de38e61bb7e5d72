"""Random numbers: two sandboxes are forks of one process, and must not draw the same."""
# ruff: noqa: E501 -- guest code stands as it is run, a case a line

from __future__ import annotations

from collections.abc import Callable

from attacks.model import Attack
from attacks.scene import Scene
from belljar.sandbox import plan

SOURCES = {
    "random": "import random\nprint(random.random(), random.Random().random(), random.SystemRandom().random())",
    "numpy_random": "import numpy\nprint(numpy.random.rand(), numpy.random.default_rng().random(), numpy.random.RandomState().rand())",
    "sympy_random": "import sympy.core.random as r\nprint(r.random(), r.rng.random())",
    "temporary_names": "import tempfile\nprint(next(tempfile._get_candidate_names()), tempfile.mktemp(dir='/'))",
    "uuid": "import uuid\nprint(uuid.uuid4(), uuid.uuid1())",
    "secrets": "import secrets, os\nprint(secrets.token_hex(8), os.urandom(8).hex())",
    "multiprocessing_key": "import multiprocessing\nprint(bytes(multiprocessing.current_process().authkey).hex())",
    "openssl": "import ssl\nprint(ssl.RAND_bytes(16).hex())",
}
# As an image would have it whose packages make a TLS context when they are imported: that starts OpenSSL's generator.
TLS_AT_IMPORT = "import ssl\nssl.create_default_context()"
PRELOAD = ("numpy", "sympy", "ssl", "uuid", "multiprocessing", "tempfile")


def _drawn_twice(code: str) -> Callable[[Scene], str]:
    def drive(scene: Scene) -> str:
        plan.LIBRARY_REHEARSAL["ssl"] = TLS_AT_IMPORT
        draws: list[list[str]] = []
        for _ in range(2):
            with scene.sandbox(preload=PRELOAD) as sandbox:
                execution = sandbox.run(code)
                draws.append(execution.stdout.split() or [str(execution.error)])
        return " ".join("same" if a == b else "different" for a, b in zip(*draws, strict=True))

    return drive


ATTACKS = tuple(
    Attack(
        name=f"draw_same_{name}",
        action=f"draw from {name.replace('_', ' ')} in two sandboxes of one zygote",
        wall="new random state after the fork",
        drive=_drawn_twice(code),
        sees="different( different)*",
    )
    for name, code in SOURCES.items()
)
