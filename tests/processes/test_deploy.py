"""A rolling deploy: nodes with old and with new code share the database."""

from __future__ import annotations

from rota.testing import history
from tests.processes.fleet import Fleet


def test_new_works_wait_for_a_node_that_knows_them(fleet: Fleet) -> None:
    old = fleet.start("old", works=["quick"])
    early = old.ask("schedule", work="new", count=8, options={"allow_unknown": True})
    old.wait_tasks("finished", early, outcome="park", state="parked")
    assert {info["status"] for info in old.ask("info", ids=early)} == {"parked"}
    known = old.ask("schedule", work="quick", count=4)
    old.wait_tasks("finished", known, state="done")

    new = fleet.start("new", works=["quick", "new"])
    late = new.ask("schedule", work="new", count=8)
    new.wait_tasks("finished", [*early, *late], outcome="done", state="done")

    infos = new.ask("info", ids=[*early, *late])
    assert {(info["status"], info["attempt"]) for info in infos} == {("done", 1)}
    assert {tuple(info["outcomes"]) for info in infos} == {("done",)}
    started = {line["task"] for line in old.all_told("started")}
    assert started.isdisjoint([*early, *late])
    events = [
        event
        for event in fleet.history()
        if not (isinstance(event, history.Accepted) and event.outcome == "park")
    ]
    assert history.check(events, complete=True, effects=True) == []
