"""A forked child of a started scheduler: every verb is refused, and the parent is unharmed."""

from __future__ import annotations

import os

from rota.testing import history
from tests.processes.fleet import Fleet


def test_a_forked_child_is_refused_and_its_parent_is_unharmed(fleet: Fleet) -> None:
    # On SQLite the file lock proves the parent's death, even with its child alive.
    lease = {"lease": 30, "heartbeat": 5} if fleet.kind == "sqlite" else {}
    parent = fleet.start("parent", **lease)
    tasks = parent.ask("schedule", work="hold", count=2)
    parent.wait_tasks("started", tasks)
    was = parent.ask("node")
    forked = parent.ask("fork")
    fleet.adopt(forked["child"])
    assert len(forked["raised"]) == 26
    assert set(forked["raised"].values()) == {"ForkedScheduler"}, forked["raised"]

    (quick,) = parent.ask("schedule", work="quick")
    parent.wait("finished", task=quick, state="done")
    assert parent.ask("node") == was
    parent.tells_none({"died", "cancelled", "took_back"}, 1.0)

    other = fleet.start("other", open=True, **lease)
    parent.kill()
    os.kill(forked["child"], 0)  # it lives on
    back = other.wait("took_back", patience=20)
    assert set(back["tasks"]) == set(tasks)
    other.wait_tasks("finished", tasks, state="done")
    os.kill(forked["child"], 0)
    assert history.check(fleet.history(), complete=True, effects=True) == []
