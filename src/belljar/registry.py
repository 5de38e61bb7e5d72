"""Finds what is made to be added to: each module of a package may offer one object under an agreed name.

A new dialect, tool or API is a new file; nothing else names it. Modules that offer nothing (`base`) are passed over.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any


def find(package: str, name: str) -> dict[str, Any]:
    """Module name -> its object called `name`, for every module of a package that has one, sorted by module name.

    Raises ImportError as the modules do.
    """
    home = import_module(package)
    modules = sorted(module.name for module in pkgutil.iter_modules(home.__path__))
    offers = {module: getattr(import_module(f"{package}.{module}"), name, None) for module in modules}
    return {module: offer for module, offer in offers.items() if offer is not None}
