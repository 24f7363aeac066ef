"""Nodes killed with SIGKILL: nothing is lost, others take over, a restart restores."""

from __future__ import annotations

import signal
import sys
import time

from rota.testing import history
from tests.processes.fleet import Fleet, NodeProcess, with_unwritten


def test_all_nodes_killed_at_once_and_one_started_again(fleet: Fleet) -> None:
    first, second = fleet.start_all(["first", "second"])
    interrupted = first.ask("schedule", work="hold", count=4)
    fleet.wait_tasks("started", interrupted)
    unknown = first.ask(
        "schedule", work="elsewhere", count=3, options={"allow_unknown": True}, noted=False
    )
    fleet.wait_tasks("finished", unknown, outcome="park")
    beyond = second.ask("schedule", work="quick", count=10, options={"delay": 4})
    within = first.ask("schedule", work="quick", count=30, options={"delay": 0.8})
    burst = second.ask("schedule", work="quick", count=300)
    for node in (first, second):
        node.signal(signal.SIGKILL)
    for node in (first, second):
        node.kill()

    third = fleet.start("third", open=True)
    report = third.ask("restore", wait=15)
    assert set(interrupted) <= set(report["interrupted"])
    found = {work: sorted(ids) for work, ids in report["unknown"].items()}
    assert found == {"elsewhere": sorted(unknown)}
    assert report["errors"] == {}
    assert report["lost"] == 0

    third.wait_tasks("finished", [*interrupted, *beyond], outcome="done", state="done")
    infos = everything_done(third, [*interrupted, *beyond, *within, *burst])
    for info in infos:
        assert info["attempt"] == 1
        assert info["outcomes"][-1] == "done"
    outcomes = {info["id"]: info["outcomes"] for info in infos}
    assert {tuple(outcomes[task]) for task in interrupted} == {("lost", "done")}
    assert {info["status"] for info in third.ask("info", ids=unknown)} == {"parked"}
    assert history.check(with_unwritten(fleet.history(), infos), complete=True, effects=True) == []


def test_a_killed_nodes_tasks_run_on_the_other(fleet: Fleet) -> None:
    # On SQLite a free lock file proves the death, so even a long lease does not delay.
    lease = {"lease": 30, "heartbeat": 5} if fleet.kind == "sqlite" else {}
    first = fleet.start("first", **lease)
    tasks = first.ask("schedule", work="hold", count=3)
    first.wait_tasks("started", tasks)
    second = fleet.start("second", open=True, **lease)
    first.kill()
    killed = time.monotonic()

    back = second.wait("took_back", patience=20)
    started = second.wait_tasks("started", tasks)
    seconds = time.monotonic() - killed
    sys.stdout.write(f"{fleet.kind}: running elsewhere {seconds:.2f} s after kill -9\n")
    finished = second.wait_tasks("finished", tasks)

    assert set(back["tasks"]) == set(tasks)
    for task in tasks:
        order = [line for line in second.told if task in (line.get("task"), *line.get("tasks", ()))]
        assert [line["is"] for line in order] == ["took_back", "started", "finished"]
    assert {line["attempt"] for line in started} == {1}
    assert {line["state"] for line in finished} == {"done"}
    assert history.check(fleet.history(), complete=True, effects=True) == []


def test_a_process_that_dies_between_claim_and_delivery(fleet: Fleet) -> None:
    client = fleet.start("client", queues=[])
    tasks = client.ask("schedule", work="quick", count=3)
    dying = fleet.launch("dying", die_after_claim=True)
    claimed = dying.wait("claimed")
    assert dying.exit_code() == 9
    assert claimed["tasks"]

    heir = fleet.start("heir", open=True)
    heir.wait_tasks("finished", tasks, state="done")
    infos = everything_done(client, tasks)
    lost = {info["id"] for info in infos if info["outcomes"] == ["lost", "done"]}
    assert lost == set(claimed["tasks"])
    assert {info["attempt"] for info in infos} == {1}
    assert history.check(fleet.history(), complete=True, effects=True) == []


def everything_done(node: NodeProcess, tasks: list[str]) -> list[dict]:
    """All tasks as the database has them, once each is done."""
    patience = time.monotonic() + 30
    left, infos = list(tasks), {}
    while left:
        infos |= {info["id"]: info for info in node.ask("info", ids=left)}
        left = [task for task in left if infos[task]["status"] != "done"]
        statuses = {infos[task]["status"] for task in left}
        assert statuses <= {"scheduled", "working", "retrying"}, statuses
        assert time.monotonic() < patience, f"{len(left)} tasks are not done: {statuses}"
    return [infos[task] for task in tasks]
