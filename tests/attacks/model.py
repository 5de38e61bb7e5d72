"""What an attack is: a name, code for the guest, and the observable that shows that the wall stood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attacks.scene import Scene

OK = ("ok",)


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attempt. Without a `drive` the code is run once in a fresh sandbox, and its standard output is what is seen.

    `sees` is a regular expression for all that is seen, or one for each profile; `outcomes` those that may end it.
    `drive` does more than one run (two sandboxes, the host's side); what it returns is what is seen.
    `after` looks at the host afterwards and returns what is wrong there; canaries are looked at after every attack.
    `@name@` in the code is replaced by the host's `Scene.places[name]`.
    """

    name: str
    action: str
    wall: str
    sees: str | Mapping[str, str]
    code: str = ""
    outcomes: tuple[str, ...] = OK
    profiles: tuple[str, ...] | None = None
    timeout: float | None = None
    drive: Callable[[Scene], str] | None = None
    after: Callable[[Scene], str] | None = None
    machine: str | None = None

    def expected(self, profile: str) -> str:
        """The observable in a profile; one that the table does not know is held to what the full profile promises."""
        return self.sees if isinstance(self.sees, str) else self.sees.get(profile, self.sees["full"])

    @property
    def observable(self) -> str:
        """The observable, for people."""
        if isinstance(self.sees, str) or len(set(self.sees.values())) == 1:
            text = self.expected("full")
        else:
            text = "; ".join(f"{profile}: {sees}" for profile, sees in self.sees.items() if profile != "gvisor")
        return text if self.outcomes == OK else f"{text} ({' or '.join(self.outcomes)})".lstrip()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came of an attack: `faults` is empty when every wall stood."""

    attack: str
    seen: str = ""
    outcome: str = ""
    faults: tuple[str, ...] = ()
    skipped: str = ""
    seconds: float = 0.0
    tags: tuple[str, ...] = field(default=())

    @property
    def held(self) -> bool:
        """Whether the wall stood."""
        return not self.faults and not self.skipped
