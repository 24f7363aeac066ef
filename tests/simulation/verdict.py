"""Whether the promises held in a world that has come to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rota.control.reading import Reader
from rota.testing.history import Violation, check
from tests.simulation.ledger import seconds_of

if TYPE_CHECKING:
    from tests.simulation.world import World

#: Clocks are told in microseconds, and rounded.
SLACK = 0.001


def settled(world: World) -> bool:
    """Whether nothing is left to do."""
    book = world.shared._book
    return (
        not any(book.lanes.values())
        and not any(book.parked.values())
        and book.working == 0
        and all(one.next_fire_at is None for one in book.definitions.values())
        and not _strangers(world)
    )


def judge(world: World) -> list[Violation]:
    """The promises broken; none for a right world."""
    ledger = world.ledger
    return [
        *ledger.violations,
        *check(
            ledger.events,
            complete=True,
            effects=True,
            expected_fires=_expected_fires(world),
            slack=SLACK,
        ),
        *_stuck(world),
        *_strangers(world),
        *(Violation("error", "a thread or loop", failure) for failure in world.turns.failures),
    ]


def _expected_fires(world: World) -> list[tuple[str, float]]:
    """Every fire time of every definition, from the first to where it has come."""
    expected = []
    for name, first in world.ledger.definitions.items():
        reading = Reader().read(first)
        now = world.shared.get_recurring(name)
        end = reading.rules.end if now is None or now.next_fire_at is None else now.next_fire_at
        at = first.next_fire_at
        while at is not None and end is not None and at <= end:
            expected.append((name, seconds_of(at)))
            at = reading.trigger.next(at)
    return expected


def _stuck(world: World) -> list[Violation]:
    """What nobody has brought to its end, also what no caller was told of."""
    rows = [row for row in world.shared._book.rows.values() if not row.final]
    found = [
        Violation("stuck", row.id, f"{row.state.name} of {row.node}, attempt {row.attempt}")
        for row in rows
    ]
    return found + [
        Violation("stuck", one.id, f"recurring, at {one.next_fire_at}")
        for one in world.shared._book.definitions.values()
        if one.next_fire_at is not None
    ]


def _strangers(world: World) -> list[Violation]:
    """Each node that lives is one of the database's nodes."""
    entered = {node.id for node in world.shared.nodes()}
    return [
        Violation("not_entered", process.name, "it lives, and its row is gone")
        for process in world.processes
        if not process.up or process.scheduler.node not in entered
    ]
