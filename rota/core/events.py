"""What a node tells those who listen in its own process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rota.core.context import Token
from rota.core.task import Ending, Stored
from rota.errors import SchemaMismatch


@dataclass(frozen=True, slots=True)
class Started:
    """An attempt got its slot; ``late`` is how many seconds after its time."""

    task: str
    work: str
    attempt: int
    token: Token
    late: float


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt's outcome was written, or refused (``state`` is None): its lease was lost."""

    task: str
    attempt: int
    token: Token
    ending: Ending
    state: Stored | None


@dataclass(frozen=True, slots=True)
class TookBack:
    """Tasks of dead nodes were made claimable again by this node."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Died:
    """This node was declared dead by another; it goes on as a new incarnation."""

    node: int


@dataclass(frozen=True, slots=True)
class Unfit:
    """The database's schema was changed beyond this node's code: it drains, then stops.

    ``error`` says what fits; every verb raises it from now on.
    """

    error: SchemaMismatch


Event = Started | Finished | TookBack | Died | Unfit
Listener = Callable[[Event], object]
