"""The history checker: a right history passes, each seeded wrong one is caught."""

from __future__ import annotations

from pathlib import Path

import pytest

from rota.core.context import Token
from rota.testing.history import (
    Accepted,
    Cancelled,
    Effect,
    Event,
    FireDecided,
    HistoryWriter,
    Limited,
    Refused,
    Scheduled,
    Started,
    Stopped,
    check,
    read,
)

A, B, C = Token(11, 1), Token(22, 1), Token(33, 1)

RIGHT: list[Event] = [
    Scheduled("t", at=0, due=10),
    Started("t", 1, A, A.node, at=10),
    Accepted("t", A, "retry", at=12, due=20),
    Started("t", 2, B, B.node, at=20),
    Accepted("t", B, "done", at=25),
    Scheduled("u", at=0),
    Cancelled("u", at=5),
    Scheduled("z", at=0),
    Started("z", 1, A, A.node, at=1),
    Started("z", 1, B, B.node, at=50),
    Refused("z", A, "done", at=55),
    Accepted("z", B, "done", at=60),
    Scheduled("x", at=0),
    Accepted("x", None, "cancelled", at=9),
    Limited(C.node, 2, at=0),
    Limited(C.node, 1, at=0, queue="mail"),
    Scheduled("y", at=0),
    Started("y", 1, C, C.node, at=30, queue="mail"),
    Effect("y", C, at=31),
    Stopped("y", C, at=31),
    Scheduled("w", at=0),
    Started("w", 1, C, C.node, at=31, queue="mail"),
    Accepted("y", C, "done", at=32),
    Effect("w", C, at=33),
    Stopped("w", C, at=33),
    Accepted("w", C, "done", at=33),
    Effect("t", A, at=11),
    Effect("t", B, at=24),
    Effect("z", A, at=2),
    Effect("z", B, at=59),
    FireDecided("nightly", 100.0, "fired", at=100),
    FireDecided("nightly", 200.0, "skipped", at=200),
]
FIRES = [("nightly", 100.0), ("nightly", 200.0)]


def verdicts(events: list[Event], **how: object) -> list[tuple[str, str]]:
    return [(one.verdict, one.subject) for one in check(events, **how)]  # type: ignore[arg-type]


def without(event: Event) -> list[Event]:
    assert event in RIGHT
    return [one for one in RIGHT if one != event]


def test_a_right_history_shows_nothing() -> None:
    assert check(RIGHT, complete=True, effects=True, expected_fires=FIRES) == []


def test_the_order_in_which_events_are_given_does_not_matter() -> None:
    assert check(RIGHT[::-1], complete=True, effects=True, expected_fires=FIRES) == []


def test_a_task_that_never_ends_is_lost() -> None:
    events = without(Accepted("t", B, "done", at=25))
    assert verdicts(events, complete=True) == [("lost", "t")]
    assert verdicts(events) == []


def test_a_retry_is_not_an_end() -> None:
    events = [one for one in RIGHT if getattr(one, "token", None) != B]
    assert ("lost", "t") in verdicts(events, complete=True)


def test_two_accepted_endings_are_one_too_many() -> None:
    wrong = [*RIGHT, Accepted("z", A, "failed", at=61)]
    assert ("ended_twice", "z") in verdicts(wrong)


def test_an_ending_after_an_acknowledged_cancel_is_one_too_many() -> None:
    assert verdicts([*RIGHT, Accepted("u", None, "cancelled", at=6)]) == [("ended_twice", "u")]


def test_two_outcomes_of_one_token_are_one_too_many() -> None:
    wrong = [*RIGHT, Accepted("t", A, "release", at=13)]
    assert verdicts(wrong) == [("token_twice", "t")]


def test_a_token_that_starts_a_task_twice_is_caught() -> None:
    wrong = [*RIGHT, Started("z", 1, A, A.node, at=51)]
    assert verdicts(wrong) == [("started_twice", "z")]


def test_one_token_may_cover_a_batch_of_tasks() -> None:
    batch: list[Event] = []
    for task in ("a", "b"):
        batch += [Started(task, 1, A, A.node, at=1), Accepted(task, A, "done", at=2)]
    assert check(batch) == []


def test_done_under_a_token_that_never_started_is_caught() -> None:
    assert verdicts(without(Started("t", 2, B, B.node, at=20))) == [("done_unstarted", "t")]


def test_done_without_the_effect_of_that_very_attempt_is_caught() -> None:
    wrong = without(Effect("z", B, at=59))
    assert verdicts(wrong, effects=True) == [("no_effect", "z")]
    assert verdicts(wrong) == []


def test_a_release_without_a_start_is_in_order() -> None:
    assert check([Scheduled("r", at=0), Accepted("r", A, "release", at=1)]) == []


def test_accepted_attempts_that_overlap_are_caught() -> None:
    wrong: list[Event] = [
        Started("o", 1, A, A.node, at=1),
        Started("o", 2, B, B.node, at=3),
        Accepted("o", A, "retry", at=5),
        Accepted("o", B, "done", at=8),
    ]
    assert verdicts(wrong) == [("overlap", "o")]
    assert verdicts(wrong, slack=2.5) == []


@pytest.mark.parametrize(
    "start", [Started("t", 1, A, A.node, at=9.9), Started("t", 2, B, B.node, at=19.9)]
)
def test_a_start_before_its_time_is_caught(start: Started) -> None:
    events = [
        one
        for one in RIGHT
        if not (isinstance(one, Started) and (one.task, one.token) == ("t", start.token))
    ]
    assert verdicts([*events, start]) == [("early", "t")]
    assert verdicts([*events, start], slack=0.2) == []


def test_a_start_after_an_acknowledged_cancel_is_caught() -> None:
    assert verdicts([*RIGHT, Started("u", 1, A, A.node, at=6)]) == [("after_cancel", "u")]
    assert verdicts([*RIGHT, Started("u", 1, A, A.node, at=4)]) == []


def test_a_start_after_an_attempt_was_cancelled_is_caught() -> None:
    ended: list[Event] = [Started("o", 1, A, A.node, at=1), Accepted("o", A, "cancelled", at=2)]
    assert verdicts([*ended, Started("o", 1, B, B.node, at=3)]) == [("after_cancel", "o")]
    assert verdicts(ended) == []


def test_more_of_a_queue_at_once_than_its_limit_is_caught() -> None:
    wrong = [*without(Stopped("y", C, at=31)), Stopped("y", C, at=31.5)]
    assert verdicts(wrong) == [("limit", "w")]
    assert verdicts(wrong, slack=0.6) == []


def test_more_in_all_than_a_node_runs_at_once_is_caught() -> None:
    more: list[Event] = [Started(task, 1, C, C.node, at=32) for task in ("a", "b")]
    assert verdicts([*RIGHT, *more]) == [("limit", "b")]
    assert verdicts([*RIGHT, *more, Limited(C.node, 3, at=31.5)]) == []


def test_a_limit_is_each_nodes_own() -> None:
    assert verdicts([*RIGHT, Started("e", 1, B, B.node, at=30.5, queue="mail")]) == []


def test_a_run_that_nobody_saw_stop_keeps_its_slot() -> None:
    wrong = without(Stopped("y", C, at=31))
    assert verdicts(wrong) == [("limit", "w")]


def test_a_short_run_is_over_whatever_the_slack() -> None:
    short: list[Event] = [Limited(A.node, 1, at=0)]
    for at in range(5):
        short += [Started(f"{at}", 1, A, A.node, at=at), Stopped(f"{at}", A, at=at + 0.1)]
    assert verdicts(short, slack=0.5) == []


def test_a_fire_time_that_is_decided_twice_is_caught() -> None:
    wrong = [*RIGHT, FireDecided("nightly", 100.0, "missed", at=130)]
    assert verdicts(wrong, expected_fires=FIRES) == [("fired_twice", "nightly")]


def test_a_fire_time_that_is_never_decided_is_caught() -> None:
    events = without(FireDecided("nightly", 200.0, "skipped", at=200))
    assert verdicts(events, expected_fires=FIRES) == [("not_fired", "nightly")]


def test_several_processes_write_one_history(tmp_path: Path) -> None:
    for part in (0, 1):
        with HistoryWriter(tmp_path / f"{part}.jsonl") as writer:
            for event in RIGHT[part::2]:
                writer.write(event)
    found = read(sorted(tmp_path.iterdir()))
    assert sorted(map(repr, found)) == sorted(map(repr, RIGHT))
    assert [event.at for event in found] == sorted(event.at for event in RIGHT)


def test_every_event_can_be_read_before_the_writer_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "open.jsonl"
    with HistoryWriter(path) as writer:
        writer.write(RIGHT[0])
        assert read([path]) == [RIGHT[0]]


def test_a_writer_goes_on_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "again.jsonl"
    for event in RIGHT[:2]:
        with HistoryWriter(path) as writer:
            writer.write(event)
    assert read([path]) == RIGHT[:2]


def test_a_line_cut_off_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "killed.jsonl"
    with HistoryWriter(path) as writer:
        writer.write(RIGHT[0])
    with path.open("a") as file:
        file.write('{"event":"Accepted","task":"t')
    assert read([path]) == [RIGHT[0]]
