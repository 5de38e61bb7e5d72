"""Fresh random state after a fork: two guests of one zygote must never draw the same numbers.

Covered: `random`, every `random.Random` and NumPy generator that an import has made, tempfile's names, the key of
multiprocessing. The interpreter's own string-hash key cannot be changed once it runs: it is the same for all guests of a
zygote (docs/security.md). `secrets`, `uuid4` and `os.urandom` ask the kernel and need nothing.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from typing import Any


class Reseeder:
    """Finds the generators in the zygote once, gives them new state in every guest."""

    def __init__(self) -> None:
        """Look through all objects alive now; call before `gc.freeze`."""
        self._generators: list[Any] = []
        self._bit_generators: list[Any] = []
        numpy_random = sys.modules.get("numpy.random")
        self._numpy = numpy_random
        states = (numpy_random.RandomState, numpy_random.Generator) if numpy_random else ()
        for thing in gc.get_objects():
            kind = type(thing)
            if issubclass(kind, random.Random) and not issubclass(kind, random.SystemRandom):
                self._generators.append(thing)
            elif states and issubclass(kind, states):
                self._bit_generators.append(thing)
        if numpy_random is not None:  # the global one is held by C code and not tracked
            self._bit_generators.append(numpy_random.mtrand._rand)

    def reseed(self) -> None:
        """New state from the kernel for everything found."""
        for generator in [random._inst, *self._generators]:  # type: ignore[attr-defined]
            generator.seed(os.urandom(32))
        for generator in self._bit_generators:
            fresh = self._numpy.MT19937(int.from_bytes(os.urandom(32)))  # type: ignore[union-attr]
            bits = generator._bit_generator if hasattr(generator, "_bit_generator") else generator.bit_generator
            if type(bits).__name__ == "MT19937":
                bits.state = fresh.state
            else:
                bits.state = type(bits)(int.from_bytes(os.urandom(32))).state
        if (tempfile := sys.modules.get("tempfile")) is not None:
            tempfile._name_sequence = None  # type: ignore[attr-defined]
        if (processes := sys.modules.get("multiprocessing.process")) is not None:
            processes.current_process()._config["authkey"] = processes.AuthenticationString(os.urandom(32))  # type: ignore[attr-defined]
