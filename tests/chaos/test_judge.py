"""The judge of a chaos run catches what it is there to catch, planted one by one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rota.core.context import Token
from rota.testing import history
from tests.chaos.journal import Effect, Journal
from tests.chaos.judge import judge
from tests.chaos.world import ChildRow, Definition, Ending, Fired, Turn, World

DONE, FAILED = 3, 4
FIRST, SECOND = Token(1, 1), Token(2, 1)
TICKS = "r/100/2"


@dataclass
class Facts(World):
    """A database that says what the test wants: one task tried twice, one child, all well."""

    ended: list[Ending] = field(
        default_factory=lambda: [
            Ending("a", "twice", DONE, 2, SECOND, 14.0, None),
            Ending("c", "tick", DONE, 1, FIRST, 103.0, None),
        ]
    )
    turned: list[Turn] = field(default_factory=lambda: [Turn("a", "retry", FIRST, 12.0)])
    waiting: list[str] = field(default_factory=list)
    leases: int = 0
    next_fire_at: float = 102.0
    decided: list[Fired] = field(default_factory=lambda: [Fired(TICKS, 100.0, "fired", 1)])
    born: list[ChildRow] = field(default_factory=lambda: [ChildRow("c", TICKS, 100.0)])

    def endings(self) -> list[Ending]:
        return self.ended

    def turns(self) -> list[Turn]:
        return self.turned

    def unfinished(self) -> list[str]:
        return self.waiting

    def waiting_for_nothing(self) -> int:
        return self.leases

    def definitions(self) -> list[Definition]:
        return [Definition(TICKS, self.next_fire_at)]

    def fired(self) -> list[Fired]:
        return self.decided

    def children(self) -> list[ChildRow]:
        return self.born


#: What the members noted of it. The first attempt's node noted its end late: it was frozen.
TOLD: list[history.Event] = [
    history.Scheduled("a", 10.0, 10.0),
    history.Started("a", 1, FIRST, 1, 11.0),
    history.Accepted("a", FIRST, "retry", 13.5),
    history.Started("a", 2, SECOND, 2, 13.0),
    history.Accepted("a", SECOND, "done", 14.0),
    history.Started("c", 1, FIRST, 1, 102.0),
]
EFFECTS = [Effect("a", FIRST, 11.5), Effect("a", SECOND, 13.5), Effect("c", FIRST, 102.5)]


def verdicts(
    directory: Path,
    facts: Facts,
    *,
    told: list[history.Event] | None = None,
    effects: list[Effect] | None = None,
    **more: Any,
) -> set[str]:
    Journal(directory / "m.history.jsonl").write(*(TOLD if told is None else told))
    journal = Journal(directory / "m.effects.jsonl")
    for effect in EFFECTS if effects is None else effects:
        journal.effect(effect)
    return {one.verdict for one in judge(facts, directory, **more).violations}


def test_what_is_right_is_found_right(tmp_path: Path) -> None:
    assert verdicts(tmp_path, Facts()) == set()


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("lost", {"ended": [Ending("c", "tick", DONE, 1, FIRST, 103.0, None)]}),
    ("unfinished", {"waiting": ["b"]}),
    ("lease_left", {"leases": 1}),
    ("ended_twice", {"ended": [*Facts().ended, Facts().ended[0]]}),
    ("token_twice", {"turned": [*Facts().turned, *Facts().turned]}),
    ("accepted_elsewhere", {"turned": []}),
    ("overlap", {"turned": [Turn("a", "retry", FIRST, 13.2)]}),
    ("attempt_used", {"ended": [Facts().ended[0]._replace(attempt=3), Facts().ended[1]]}),
    ("wrong_end", {"ended": [Facts().ended[0]._replace(state=FAILED), Facts().ended[1]]}),
    ("fired_wrongly", {"next_fire_at": 104.0}),
    ("fired_wrongly", {"decided": [Fired(TICKS, 100.0, "missed", 1)]}),
    ("fired_wrongly", {"born": []}),
    ("fired_wrongly", {"born": [*Facts().born, ChildRow("a", TICKS, 100.0)]}),
]


@pytest.mark.parametrize(
    ("verdict", "wrong"), WRONG, ids=[f"{w[0]}{n}" for n, w in enumerate(WRONG)]
)
def test_each_wrong_in_the_database_is_caught(
    tmp_path: Path, verdict: str, wrong: dict[str, Any]
) -> None:
    assert verdict in verdicts(tmp_path, Facts(**wrong))


def test_a_second_start_under_one_token_is_caught(tmp_path: Path) -> None:
    told = [*TOLD, history.Started("c", 1, FIRST, 1, 102.2)]
    assert "token_reused" in verdicts(tmp_path, Facts(), told=told)


def test_what_is_done_without_its_effect_is_caught(tmp_path: Path) -> None:
    assert verdicts(tmp_path, Facts(), effects=EFFECTS[:2]) == {"no_effect"}


def test_what_went_with_a_primary_is_counted_and_forgiven_only_for_its_time(
    tmp_path: Path,
) -> None:
    told = [
        *TOLD,
        history.Scheduled("b", 20.0, 20.0),
        history.Started("b", 1, SECOND, 2, 20.5),
        history.Accepted("b", SECOND, "done", 21.0),
    ]
    assert verdicts(tmp_path, Facts(), told=told, vanished=(19.0, 22.0)) == set()
    assert judge(Facts(), tmp_path, vanished=(19.0, 22.0)).vanished == 2
    assert "lost" in {one.verdict for one in judge(Facts(), tmp_path).violations}


def test_half_a_line_of_a_killed_process_is_passed_over(tmp_path: Path) -> None:
    with (tmp_path / "killed.effects.jsonl").open("w", encoding="utf-8") as file:
        file.write(json.dumps({"task": "c"})[:5])
    assert verdicts(tmp_path, Facts()) == set()
