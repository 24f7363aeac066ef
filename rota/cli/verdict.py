"""What the demonstration measured, and which promises that keeps or breaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rota.cli.course import Course, quantile
from rota.cli.mishaps import Mishap
from rota.core.task import Task, TaskState
from rota.testing.history import Violation, check

#: Seconds from the kill until a task of the dead node runs elsewhere. On PostgreSQL a dead
#: node's lease is first cut to two seconds.
RESCUE_LIMIT = 3.0
_TWICE = frozenset({"ended_twice", "token_twice"})


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The numbers; times in seconds."""

    files: int
    ticks: int
    scheduled: int
    done: int
    lost: int
    wrong_results: int
    accepted_twice: int
    late_writes_refused: int
    late_results_refused: int
    other_violations: int
    start_p50: float
    start_p99: float
    kill_to_rescue: float | None
    rescue_limit: float


@dataclass(frozen=True)
class Promise:
    """One promise and whether it was kept."""

    text: str
    kept: bool
    detail: str = ""


def measure(
    course: Course,
    *,
    tasks: Mapping[str, Task | None],
    expected: Mapping[str, str],
    ticks: Sequence[str],
    killed: Mishap,
) -> tuple[Figures, list[Violation]]:
    """The figures, and what the history checker objects to.

    ``tasks`` are all of them as the database has them at the end, ``expected`` the
    digests by task id, ``ticks`` the ids of the recurring task's children.
    """
    violations = check(course.history(), slack=0.05)
    done = [task for task in tasks.values() if task and task.state is TaskState.DONE]
    right = sum(expected[task.id] == task.result for task in done if task.id in expected)
    rescued = course.started_elsewhere(set(killed.tasks), killed.name, killed.at)
    delays = course.delays()
    figures = Figures(
        files=len(expected),
        ticks=len(ticks),
        scheduled=len(tasks),
        done=len(done),
        lost=sum(task is None or not task.state.final for task in tasks.values()),
        wrong_results=len(expected) - right,
        accepted_twice=sum(one.verdict in _TWICE for one in violations),
        late_writes_refused=course.refused.total(),
        late_results_refused=course.late_results.total(),
        other_violations=sum(one.verdict not in _TWICE for one in violations),
        start_p50=quantile(delays, 0.50),
        start_p99=quantile(delays, 0.99),
        kill_to_rescue=None if rescued is None else rescued - killed.at,
        rescue_limit=RESCUE_LIMIT,
    )
    return figures, violations


def judge(figures: Figures, violations: Sequence[Violation]) -> list[Promise]:
    """Every promise with its verdict."""
    rescue = figures.kill_to_rescue
    others = [one for one in violations if one.verdict not in _TWICE]
    return [
        Promise("every task ended, none was lost", figures.lost == 0),
        Promise("every digest is the one hashlib finds", figures.wrong_results == 0),
        Promise("every task that was scheduled is done", figures.done == figures.scheduled),
        Promise(
            "no outcome was accepted twice",
            figures.accepted_twice == 0,
            _shown([one for one in violations if one.verdict in _TWICE]),
        ),
        Promise("the frozen node's late writes were refused", figures.late_writes_refused >= 1),
        Promise(
            f"the killed node's tasks ran elsewhere within {figures.rescue_limit:g} s",
            rescue is not None and rescue <= figures.rescue_limit,
        ),
        Promise(
            "nothing ran before its time or beside an accepted attempt", not others, _shown(others)
        ),
    ]


def as_json(figures: Figures, promises: Sequence[Promise]) -> dict[str, Any]:
    """Both as one JSON object."""
    return {
        **asdict(figures),
        "promises": [asdict(promise) for promise in promises],
        "kept": all(promise.kept for promise in promises),
    }


def table(figures: Figures) -> list[str]:
    """The figures as aligned lines."""
    rescue = figures.kill_to_rescue
    rows = [
        ("scheduled", f"{figures.scheduled}", f"{figures.files} files, {figures.ticks} ticks"),
        ("done", f"{figures.done}", ""),
        ("lost", f"{figures.lost}", "must be 0"),
        ("wrong results", f"{figures.wrong_results}", "must be 0"),
        ("outcomes accepted twice", f"{figures.accepted_twice}", "must be 0"),
        (
            "late writes refused",
            f"{figures.late_writes_refused}",
            f"at least 1; {figures.late_results_refused} of them finished results",
        ),
        ("due to start, p50", span(figures.start_p50), ""),
        ("due to start, p99", span(figures.start_p99), "the lost nodes' tasks among them"),
        (
            "kill to rescue",
            "never" if rescue is None else span(rescue),
            f"at most {figures.rescue_limit:g} s",
        ),
    ]
    return [f"{name:<24}{value:>9}   {note}".rstrip() for name, value, note in rows]


def lines(promises: Sequence[Promise]) -> list[str]:
    """One line per promise."""
    return [
        f"{'kept  ' if promise.kept else 'BROKEN'}  {promise.text}"
        + (f": {promise.detail}" if promise.detail else "")
        for promise in promises
    ]


def span(seconds: float) -> str:
    """A short time, for people."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _shown(violations: Sequence[Violation]) -> str:
    return "; ".join(f"{one.verdict} {one.subject} ({one.detail})" for one in violations[:3])
