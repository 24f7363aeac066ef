"""The demonstration's evidence: logs, course, verdict and screen find what is wrong."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rota.cli import library
from rota.cli.course import Course, quantile
from rota.cli.fleet import Fleet
from rota.cli.mishaps import Mishap
from rota.cli.nodelog import Entry, NodeLog, Tail
from rota.cli.screen import Screen
from rota.cli.verdict import judge, measure
from rota.core.context import Token
from rota.core.events import Died, Finished, Started, TookBack
from rota.core.task import Ending, Stored, Task, TaskState

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "digest"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def started(task: str, at: float, *, node: int = 1, batch: int = 1) -> Entry:
    return Entry("started", at, node, batch, task, 1)


def ended(task: str, at: float, *, node: int = 1, batch: int = 1, kind: str = "accepted") -> Entry:
    return Entry(kind, at, node, batch, task, 1, "done")


def stored(task: str, *, state: TaskState = TaskState.DONE, result: object = DIGEST) -> Task:
    return Task(
        id=task, work=library.DIGEST, params={}, state=state, queue="q", priority=0,
        run_at=MOMENT, due_at=MOMENT, created_at=MOMENT, attempt=1, max_attempts=1, result=result,
    )  # fmt: skip


def good_course() -> Course:
    """Node a runs ``one``, is killed; b takes over. c is frozen while it runs ``two``."""
    course = Course()
    course.due = {"one": 10.0, "two": 10.0}
    course.follow("a", [started("one", 10.1)])
    course.follow("c", [started("two", 10.1, node=3), ended("two", 16.0, node=3, kind="refused")])
    course.follow("b", [
        Entry("took_back", 11.0, tasks=("one",)),
        started("one", 11.5, node=2), ended("one", 11.6, node=2),
        started("two", 14.0, node=2, batch=2), ended("two", 14.1, node=2, batch=2),
    ])  # fmt: skip
    return course


def verdicts(course: Course, **tasks: Task | None) -> dict[str, bool]:
    found: dict[str, Task | None] = {"one": stored("one"), "two": stored("two"), **tasks}
    figures, violations = measure(
        course,
        tasks=found,
        expected={"one": DIGEST, "two": DIGEST},
        ticks=[],
        killed=Mishap("a", 10.5, frozenset({"one"})),
    )
    return {promise.text: promise.kept for promise in judge(figures, violations)}


def broken(course: Course, **tasks: Task | None) -> set[str]:
    return {text for text, kept in verdicts(course, **tasks).items() if not kept}


def test_a_good_course_keeps_every_promise() -> None:
    assert broken(good_course()) == set()


def test_what_never_ended_is_lost() -> None:
    everything = {"every task ended, none was lost", "every digest is the one hashlib finds",
                  "every task that was scheduled is done"}  # fmt: skip
    assert broken(good_course(), two=stored("two", state=TaskState.WORKING)) == everything
    assert broken(good_course(), two=None) == everything


def test_a_wrong_digest_is_found() -> None:
    assert broken(good_course(), one=stored("one", result="other")) == {
        "every digest is the one hashlib finds"
    }


def test_a_second_accepted_outcome_is_found() -> None:
    course = good_course()
    course.follow("c", [ended("two", 16.5, node=3)])
    assert "no outcome was accepted twice" in broken(course)


def test_a_start_before_its_time_is_found() -> None:
    course = good_course()
    course.due["one"] = 12.0
    assert broken(course) == {"nothing ran before its time or beside an accepted attempt"}


def test_a_rescue_that_took_too_long_or_never_came_is_found() -> None:
    course = good_course()
    late = Course()
    late.due = course.due
    for name, entry in course.entries:
        moved = entry.at + 9 if name == "b" and entry.task == "one" else entry.at
        late.follow(name, [entry._replace(at=moved)])
    assert broken(late) == {"the killed node's tasks ran elsewhere within 3 s"}


def test_no_refused_write_breaks_the_promise_of_the_fence() -> None:
    course = Course()
    course.due = good_course().due
    for name, entry in good_course().entries:
        if entry.kind != "refused":
            course.follow(name, [entry])
    assert broken(course) == {"the frozen node's late writes were refused"}


def test_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    tail, token = Tail(tmp_path / "n.jsonl"), Token(7, 3)
    with NodeLog(tmp_path / "n.jsonl") as log:
        log.ready(7)
        log.hear(Started("t", "w", 1, token, 0.1))
        log.hear(Finished("t", 1, token, Ending.DONE, Stored.DONE))
        log.hear(Finished("t", 1, token, Ending.DONE, None))
        log.hear(Finished("t", 1, token, Ending.RETRY, Stored.CANCELLED))
        log.hear(TookBack(("t", "u")))
        log.hear(Died(7))
    entries = tail.read()
    assert [(entry.kind, entry.outcome) for entry in entries] == [
        ("ready", ""), ("started", ""), ("accepted", "done"), ("refused", "done"),
        ("accepted", "cancelled"), ("took_back", ""), ("died", ""),
    ]  # fmt: skip
    assert entries[1][2:6] == (7, 3, "t", 1)
    assert entries[5].tasks == ("t", "u")
    assert tail.read() == []


def test_half_a_line_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "n.jsonl"
    with NodeLog(path) as log:
        log.ready(7)
    line = path.read_bytes()
    path.write_bytes(line + line[:10])
    tail = Tail(path)
    assert [entry.node for entry in tail.read()] == [7]
    path.write_bytes(line + line)
    assert [entry.node for entry in tail.read()] == [7]


def test_a_log_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert Tail(tmp_path / "none").read() == []


def test_what_runs_is_what_started_and_has_not_ended() -> None:
    course = Course()
    course.follow("a", [started("x", 1.0), started("y", 2.0, batch=2), ended("x", 3.0)])
    assert [run.task for run in course.running("a")] == ["y"]
    course.forget_running("a")
    assert course.running("a") == []


@pytest.mark.parametrize(
    ("values", "share", "value"),
    [([], 0.5, 0.0), ([1.0], 0.99, 1.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 3.0)],
)
def test_quantile(values: list[float], share: float, value: float) -> None:
    assert quantile(values, share) == value


@pytest.fixture
def no_fleet(tmp_path: Path) -> Fleet:
    return Fleet([], course=Course(), url="sqlite://", schema=None, directory=tmp_path)


def test_a_terminal_is_redrawn_in_place(no_fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    screen = Screen(out, course=good_course(), fleet=no_fleet, quiet=False)
    screen.update(force=True)
    screen.update(force=True)
    assert out.getvalue().count("\x1b[3F\x1b[J") == 1
    assert "done     2" in out.getvalue()


def test_a_line_is_cut_rather_than_wrapped(
    no_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    out = Terminal()
    Screen(out, course=good_course(), fleet=no_fleet, quiet=False).update(force=True)
    assert max(len(line) for line in out.getvalue().splitlines()) == 29


def test_a_pipe_gets_plain_lines(no_fleet: Fleet) -> None:
    out = io.StringIO()
    screen = Screen(out, course=good_course(), fleet=no_fleet, quiet=False)
    screen.update(force=True)
    screen.say("something")
    screen.update(force=True)
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 3


def test_the_library_is_real_and_evenly_thinned() -> None:
    everything, some = library.sources(), library.sources(40)
    assert len(everything) > 500
    assert len(some) == len(set(some)) == 40
    assert set(some) <= set(everything)
    source = some[7]
    works = library.demo_works()
    assert works.find(library.DIGEST) is not None
    digest = library.digest_slowly(source.name, source.slices, 0.0)
    assert digest == library.digests([source.name])[source.name]
