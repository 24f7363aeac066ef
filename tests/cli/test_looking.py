"""``rota queues``, ``nodes``, ``top`` and ``history`` on both databases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rota import Retention, Scheduler
from rota.cli import exits
from rota.cli.top import View, rates_between
from rota.core.finding import Count, Counts
from rota.core.retention import Keeping
from tests.cli.places import Place, ended


async def _three(scheduler: Scheduler) -> list[str]:
    return await ended(scheduler, "ok", "boom", "boom")


def test_queues_are_counted_paused_and_resumed(place: Place) -> None:
    place.put(_three)
    paused = place.json("queues", "pause", "mail", "--reason", "no provider")
    assert paused == {"queue": "mail", "paused": True, "reason": "no provider"}
    queues = place.json("queues", "list")["queues"]
    assert (queues["default"]["done"], queues["mail"]["failed"]) == (1, 2)
    assert queues["mail"]["paused"] == "no provider"
    assert "no provider" in place.run("queues", "list")
    assert place.json("queues", "list", "--by", "work")["works"]["boom"]["failed"] == 2
    assert place.json("queues", "resume", "mail")["changed"] is True
    assert place.run("queues", "resume", "mail") == "was not paused\n"


def test_top_shows_queues_nodes_and_failures_once(place: Place) -> None:
    place.put(_three)
    view = place.json("top", "--once")
    assert view["queues"]["mail"]["failed"] == 2
    assert (view["rates"], view["nodes"]) == (None, [])
    assert [(one["work"], one["n"]) for one in view["failures"]] == [("boom", 2)]
    text = place.run("top", "--once")
    assert "ValueError" in text
    assert "\x1b" not in text


def test_rates_are_what_ended_between_two_looks() -> None:
    def seen(at: float, done: int) -> View:
        return View(at, {"a": Counts(done=Count(done))}, [], [])

    assert rates_between(None, seen(1, 5)) is None
    assert rates_between(seen(1, 5), seen(3, 25)) == {"done": 10.0, "failed": 0.0, "cancelled": 0.0}


def test_nodes_and_what_they_run(place: Place, capsys: Any) -> None:
    import asyncio

    begun, go = asyncio.Event(), asyncio.Event()

    @place.works.register("long")
    async def long() -> None:
        begun.set()
        await go.wait()

    async def look(scheduler: Scheduler) -> Any:
        handle = await scheduler.schedule("long")
        await begun.wait()
        seen = await asyncio.to_thread(place.json, "nodes", "--running")
        go.set()
        await handle.wait(timeout=20)
        shown = await asyncio.to_thread(place.run, "tasks", "show", handle.id)
        assert shown.count(f"one ({scheduler.node})") == 2
        return handle.id, seen

    task, seen = place.put(look, name="one")
    assert [(node["name"], node["tasks"]) for node in seen["nodes"]] == [("one", 1)]
    assert [one["id"] for one in seen["running"]] == [task]
    assert place.run("nodes") == "no node runs\n"


def test_history_is_archived_before_it_is_removed(place: Place, tmp_path: Path) -> None:
    done, failed, other = place.put(_three)
    waiting = place.json("tasks", "schedule", "later", "--delay", "1h")["id"]
    file = tmp_path / "old.jsonl"
    assert place.json("history", "prune", "--older-than", "1d", "--yes") == {"removed": 0}
    words = ["history", "archive", str(file), "--older-than", "0", "--state", "failed", "--yes"]
    assert place.json(*words)["archived"] == 2
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["id"] for line in lines} == {failed, other}
    assert all("Traceback" in line["history"][-1]["error"]["traceback"] for line in lines)
    assert {one["id"] for one in place.json("tasks", "list")["tasks"]} == {done, waiting}
    assert place.run("history", "prune", "--older-than", "0", "--yes") == "removed 1\n"
    assert [one["id"] for one in place.json("tasks", "list")["tasks"]] == [waiting]
    assert place.json("queues", "list")["queues"]["mail"]["failed"] == 2


def test_history_is_removed_only_on_a_yes(sqlite_place: Place) -> None:
    sqlite_place.put(_three)
    sqlite_place.run("history", "prune", "--older-than", "0", status=exits.USAGE)
    assert len(sqlite_place.json("tasks", "list")["tasks"]) == 3


def test_retention_is_shown_and_set_for_all_nodes(place: Place) -> None:
    assert place.json("history", "retention") == {
        "done_seconds": 604_800,
        "failed_seconds": 2_592_000,
        "archive": False,
    }
    told = place.run("history", "retention", "--failed", "forever")
    assert told == "done and cancelled 7 d, failed for ever; dropped without an archive\n"
    told = place.run("history", "retention", "--done", "36h")
    assert told == "done and cancelled 1 d 12 h, failed for ever; dropped without an archive\n"
    assert place.put(Scheduler.keeping) == Keeping(Retention(done=129_600, failed=None))
    place.put(Scheduler.keeping, archive=list)
    assert place.json("history", "retention")["archive"] is True
    assert "after an archive has it" in place.run("history", "retention")
    assert place.json("history", "retention", "--no-archive")["archive"] is False
