"""``rota recurring`` on both databases."""

from __future__ import annotations

from rota.cli import exits
from tests.cli.places import Place


def test_a_recurring_task_from_its_beginning_to_its_end(place: Place) -> None:
    words = ["recurring", "add", "nightly", "report.build", "--cron", "0 3 * * *"]
    words += ["--timezone", "Europe/Paris", "-p", "kind=long", "--overlap", "queue"]
    words += ["--misfire-grace-time", "1h", "--max-runs", "9", "--queue", "reports"]
    assert place.json(*words)["put"] == "created"
    assert place.json(*words)["put"] == "same"
    kept = place.run(*words[:4], "--every", "1h", "--keep-existing")
    assert kept.startswith("exists: at 03:00 every day, Europe/Paris; next: ")
    listed = place.json("recurring", "list")["recurring"]
    assert [(one["id"], one["work"], one["queue"]) for one in listed] == [
        ("nightly", "report.build", "reports")
    ]
    assert listed[0]["trigger"] == {"cron": "0 3 * * *", "timezone": "Europe/Paris"}
    rules = listed[0]["rules"]
    assert (rules["overlap"], rules["misfire_grace_seconds"], rules["max_runs"]) == (
        "queue",
        3600.0,
        9,
    )
    assert "at 03:00 every day, Europe/Paris" in place.run("recurring", "list")

    times = place.json("recurring", "next", "nightly", "--count", "3")["next"]
    assert len(times) == 3
    assert place.json("recurring", "pause", "nightly")["changed"] is True
    assert "paused" in place.run("recurring", "list")
    task = place.json("recurring", "run", "nightly")["task"]
    shown = place.json("tasks", "show", task)
    assert (shown["work"], shown["params"], shown["recurring"]) == (
        "report.build",
        {"kind": "long"},
        "nightly",
    )
    assert place.json("recurring", "resume", "nightly")["next"] == times[:1]
    whole = place.json("recurring", "show", "nightly")
    assert [child["task"] for child in whole["children"]] == [task]
    assert [one["decision"] for one in whole["decisions"]] == ["triggered"]
    assert task in place.run("recurring", "show", "nightly")
    place.run("recurring", "remove", "nightly")
    place.run("recurring", "show", "nightly", status=exits.NOT_FOUND)
    assert place.run("recurring", "list") == "there is no recurring task\n"


def test_at_an_interval_and_by_any_stored_trigger(sqlite_place: Place) -> None:
    said = sqlite_place.run("recurring", "add", "a", "w", "--every", "90m")
    assert said.startswith("created: every 90 minutes; next: ") or "1 hour" in said
    trigger = '{"every_seconds": 60, "anchor": "2026-01-01T00:00:00+00:00"}'
    sqlite_place.run("recurring", "add", "b", "w", "--trigger", trigger, status=0)
    status, _, err = sqlite_place.all("recurring", "add", "c", "w")
    assert status == exits.USAGE
    assert "give one of --cron, --every, --trigger" in err
