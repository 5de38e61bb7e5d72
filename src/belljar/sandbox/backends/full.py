"""The full profile: every guest in namespaces of its own, in a root that holds the image and the system libraries
only.
"""

from __future__ import annotations

from belljar.sandbox.forkserver import ForkServer


class Full(ForkServer):
    """Needs user namespaces (or root) and Landlock; nothing else of the host."""

    profile = "full"
