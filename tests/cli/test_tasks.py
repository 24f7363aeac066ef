"""``rota tasks`` on both databases: find, show, put in, act on."""

from __future__ import annotations

import re
import uuid

from rota import Scheduler
from rota.cli import exits
from tests.cli.places import Place, ended


def test_list_and_show_tell_the_history_with_its_traceback(place: Place) -> None:
    async def fail(scheduler: Scheduler) -> list[str]:
        return await ended(scheduler, "boom", "ok")

    failed, done = place.put(fail)

    assert [task["id"] for task in place.json("tasks", "list")["tasks"]] == [done, failed]
    listed = place.json("tasks", "list", "--state", "failed", "--queue", "mail", "--limit", "1")
    assert [(one["id"], one["status"]) for one in listed["tasks"]] == [(failed, "failed")]
    assert failed in place.run("tasks", "list", "--work", "boom")
    assert place.run("tasks", "list", "--created-before", "1h") == "no task fits\n"
    shown = place.run("tasks", "show", failed)
    assert re.search(r"\n  1  failed  \S+ \S+, took .*, node \d+\n     ValueError: no way", shown)
    assert "     Traceback (most recent call last):" in shown
    assert "\x1b" not in shown
    history = place.json("tasks", "show", failed)["history"]
    assert [(one["attempt"], one["outcome"]) for one in history] == [(1, "failed")]
    assert "Traceback" in history[0]["error"]["traceback"]


def test_pages_go_on_where_the_last_one_ended(sqlite_place: Place) -> None:
    ids = [sqlite_place.json("tasks", "schedule", "later", "--delay", "1h")["id"] for _ in "abc"]
    first = sqlite_place.json("tasks", "list", "--limit", "2", "--oldest-first")
    second = sqlite_place.json(
        "tasks", "list", "--limit", "2", "--oldest-first", "--after", first["next"]
    )
    assert [one["id"] for page in (first, second) for one in page["tasks"]] == ids
    assert f"--after {first['next']}" in sqlite_place.run(
        "tasks", "list", "--limit", "2", "--oldest-first"
    )


def test_schedule_takes_the_options_of_the_api(place: Place) -> None:
    mine = str(uuid.uuid4())
    words = ["tasks", "schedule", "far.away", "-p", "n=7", "-p", "name=Ada", "--id", mine]
    words += ["--at", "2126-12-01T08:00+01:00", "--queue", "mail", "--priority", "5"]
    words += ["--max-attempts", "3", "--timeout", "1m", "--expires", "2h", "--unique", "k"]
    task = place.json(*words, "--meta", "tenant=7", "--backoff", '{"first": 2}')
    assert (task["id"], task["params"]) == (mine, {"n": 7, "name": "Ada"})
    assert (task["queue"], task["priority"], task["max_attempts"]) == ("mail", 5, 3)
    assert (task["due_at"], task["expires_at"]) == (
        "2126-12-01T07:00:00+00:00",
        "2126-12-01T09:00:00+00:00",
    )
    assert (task["unique"], task["meta"], task["created"]) == ("k", {"tenant": 7}, True)
    status, out, err = place.all("tasks", "schedule", "other", "--unique", "k")
    assert (status, out) == (exits.CONFLICT, "")
    assert "unique key 'k' is taken" in err
    again = place.json("tasks", "schedule", "other", "--unique", "k", "--on-conflict", "return")
    assert (again["id"], again["created"]) == (mine, False)
    assert place.json("tasks", "list", "--meta", "tenant=7")["tasks"][0]["id"] == mine
    for how, word in (("return", "exists"), ("replace", "replaced")):
        words = ["far.away", "--delay", "1h", "--unique", "k", "--on-conflict", how]
        assert place.run("tasks", "schedule", *words) == f"{mine}  {word}, scheduled\n"


def test_each_verb_acts_on_the_tasks_that_are_named(place: Place) -> None:
    one, other = (place.json("tasks", "schedule", "later", "--delay", "1h")["id"] for _ in "ab")
    missing = str(uuid.uuid4())
    place.run("tasks", "reschedule", one, "--at", "2126-01-01T00:00Z")
    assert place.json("tasks", "show", one)["due_at"].startswith("2126-01-01T00:00:00")
    status, out, err = place.all("tasks", "cancel", one, missing, other, "--reason", "enough")
    assert status == exits.NOT_FOUND
    assert out.split() == [one, "cancelled", missing, "task_not_found", other, "cancelled"]
    assert err.startswith(f"error: task {missing} does not exist;")
    assert place.json("tasks", "show", one)["reason"] == "enough"
    assert place.json("tasks", "retry", one) == {"tasks": {one: "retried"}}
    place.run("tasks", "delete", other)
    place.run("tasks", "show", other, status=exits.NOT_FOUND)
    place.run("tasks", "delete", one, status=exits.CONFLICT)


def test_each_verb_acts_on_all_that_fit(place: Place) -> None:
    async def many(scheduler: Scheduler) -> None:
        await ended(scheduler, "boom", "boom", "ok")
        await scheduler.schedule_many([("later", {})] * 3, delay=3600, allow_unknown=True)

    place.put(many)
    fitting = ["--work", "later", "--yes"]
    moved = place.json("tasks", "reschedule", *fitting, "--delay", "2h")
    assert moved == {"changed": 3, "requested": 0, "skipped": 0}
    assert place.json("tasks", "cancel", *fitting, "--limit", "1")["changed"] == 1
    assert place.run("tasks", "cancel", *fitting) == "cancelled 2\n"
    assert place.json("tasks", "retry", "--queue", "mail", "--yes")["changed"] == 2
    assert place.json("tasks", "cancel", "--all", "--yes")["changed"] == 2
    assert place.json("tasks", "delete", "--all", "--yes")["changed"] == 6
    assert place.json("tasks", "list")["tasks"] == []


def test_many_are_changed_only_on_a_yes(sqlite_place: Place) -> None:
    sqlite_place.run("tasks", "schedule", "later", "--delay", "1h")
    status, _, err = sqlite_place.all("tasks", "cancel", "--all")
    assert status == exits.USAGE
    assert "cancel every task there is; add --yes" in err
    assert sqlite_place.json("tasks", "list")["tasks"][0]["status"] == "scheduled"
