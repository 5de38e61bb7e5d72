"""Fresh random state after a fork: two guests of one zygote must never draw the same numbers.

Covered: `random`, every `random.Random` and NumPy generator that an import has made, tempfile's names, the key of
multiprocessing. The interpreter's own string-hash key cannot be changed once it runs: it is the same for all guests of
a zygote (docs/security.md). `secrets`, `uuid4` and `os.urandom` ask the kernel and need nothing.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from typing import Any

SEED_BYTES = 32


class Reseeder:
    """Finds the generators in the zygote once, gives them new state in every guest."""

    def __init__(self) -> None:
        """Look through all objects alive now; call before `gc.freeze`."""
        self._generators: list[random.Random] = []
        self._states: list[Any] = []  # numpy's RandomState over MT19937
        self._bits: list[Any] = []  # any other bit generator of numpy's
        numpy_random = sys.modules.get("numpy.random")
        found = [] if numpy_random is None else [numpy_random.mtrand._rand]  # held by C code, not tracked
        kinds = () if numpy_random is None else (numpy_random.RandomState, numpy_random.Generator)
        for thing in gc.get_objects():
            if issubclass(type(thing), random.Random) and not issubclass(type(thing), random.SystemRandom):
                self._generators.append(thing)
            elif kinds and issubclass(type(thing), kinds):
                found.append(thing)
        if (ssl := sys.modules.get("_ssl")) is not None:
            ssl.RAND_bytes(1)  # OpenSSL sets itself up here, once, and not with 4.5 MB and 5 ms in every guest
        for thing in {id(thing): thing for thing in found}.values():
            bits = thing._bit_generator if hasattr(thing, "_bit_generator") else thing.bit_generator
            if type(bits).__name__ == "MT19937" and hasattr(thing, "seed"):
                self._states.append(thing)
            else:
                self._bits.append(bits)

    def reseed(self) -> None:
        """New state from the kernel for everything found."""
        fresh = memoryview(os.urandom(SEED_BYTES * (1 + len(self._generators) + len(self._states) + len(self._bits))))
        seeds = (fresh[at : at + SEED_BYTES] for at in range(0, len(fresh), SEED_BYTES))
        for generator in (random._inst, *self._generators):  # type: ignore[attr-defined]
            generator.seed(int.from_bytes(next(seeds), "little"))
        for state in self._states:
            state.seed(next(seeds).cast("I").tolist())
        for bits in self._bits:
            bits.state = type(bits)(int.from_bytes(next(seeds), "little")).state
        if (ssl := sys.modules.get("_ssl")) is not None:
            ssl.RAND_add(os.urandom(SEED_BYTES), float(SEED_BYTES))  # OpenSSL mixes it in before the next number
        if (tempfile := sys.modules.get("tempfile")) is not None:
            tempfile._name_sequence = None  # type: ignore[attr-defined]
        if (processes := sys.modules.get("multiprocessing.process")) is not None:
            key = processes.AuthenticationString(os.urandom(32))  # type: ignore[attr-defined]
            processes.current_process()._config["authkey"] = key  # type: ignore[attr-defined]
