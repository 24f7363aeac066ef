"""What happened to tasks, written down as it happens, and whether the promises held."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from math import inf
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rota.core.context import Token
from rota.testing.events import (
    KINDS,
    TERMINAL,
    Accepted,
    Cancelled,
    Effect,
    Event,
    FireDecided,
    Limited,
    Refused,
    Scheduled,
    Started,
    Stopped,
)

__all__ = [
    "Accepted",
    "Cancelled",
    "Effect",
    "Event",
    "FireDecided",
    "HistoryWriter",
    "Limited",
    "Refused",
    "Scheduled",
    "Started",
    "Stopped",
    "Violation",
    "check",
    "read",
]


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: the ``verdict``, whose, and what shows it."""

    verdict: str
    subject: str
    detail: str


class HistoryWriter:
    """Append events to a JSON-lines file; each has left the process when ``write`` returns.

    One file per process; threads may share a writer. A process that is killed leaves at
    most one line half written, which :func:`read` passes over.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._lock = threading.Lock()
        self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 - closed by close()

    def write(self, event: Event) -> None:
        line = json.dumps({"event": type(event).__name__, **asdict(event)}, separators=(",", ":"))
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read(paths: Iterable[str | PathLike[str]]) -> list[Event]:
    """The events of all files, by time; those of one file with the same time as written."""
    events = [event for path in paths for event in _read_one(Path(path))]
    return sorted(events, key=lambda event: event.at)


def check(
    events: Sequence[Event],
    *,
    complete: bool = False,
    effects: bool = False,
    expected_fires: Iterable[tuple[str, float]] = (),
    slack: float = 0.0,
) -> list[Violation]:
    """The promises these events show broken; none for a right history.

    ``complete`` says that the system was given time to finish everything, so that what
    was scheduled and has not ended is lost; ``effects``, that every work notes its effect.
    ``expected_fires`` are (recurring, fire time) that must have been decided. ``slack`` is
    how many seconds the clocks of the processes may be apart. Events may come in any order.

    ===================  ==========================================================
    verdict              promise broken
    ===================  ==========================================================
    ``lost``             a stored task ends
    ``ended_twice``      at most one terminal outcome per task is accepted
    ``token_twice``      at most one outcome per task and token is accepted
    ``started_twice``    under one token a task starts at most once
    ``done_unstarted``   what is done was started, under the same token
    ``no_effect``        what is done has had its effect, under the same token
    ``overlap``          attempts whose outcomes were accepted do not overlap
    ``early``            nothing starts before its time
    ``after_cancel``     nothing starts after its cancellation was acknowledged or accepted
    ``limit``            no node runs more at once than its limits allow
    ``fired_twice``      a fire time is decided once
    ``not_fired``        a fire time is decided at all
    ===================  ==========================================================

    An attempt that lost its lease and goes on running is no violation: a task runs at
    least once. That its outcome counts would be one.
    """
    found: list[Violation] = []
    for story in _stories(events).values():
        found += _check_endings(story, complete=complete)
        found += _check_tokens(story)
        found += _check_starts(story, slack)
        found += _check_overlap(story, slack)
        if effects:
            found += _check_effects(story)
    return [
        *found,
        *_check_limits(events, slack),
        *_check_fires(events, expected_fires),
    ]


class _Story:
    """All that is told of one task, each kind in order of time."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.scheduled: list[Scheduled] = []
        self.started: list[Started] = []
        self.accepted: list[Accepted] = []
        self.cancelled: list[Cancelled] = []
        self.effects: list[Effect] = []

    def violation(self, verdict: str, detail: str) -> Violation:
        return Violation(verdict, self.task, detail)


def _stories(events: Iterable[Event]) -> dict[str, _Story]:
    stories: dict[str, _Story] = {}
    for event in sorted(events, key=lambda event: event.at):
        if isinstance(event, FireDecided | Limited):
            continue
        story = stories.setdefault(event.task, _Story(event.task))
        match event:
            case Scheduled():
                story.scheduled.append(event)
            case Started():
                story.started.append(event)
            case Accepted():
                story.accepted.append(event)
            case Cancelled():
                story.cancelled.append(event)
            case Effect():
                story.effects.append(event)
            case Refused() | Stopped():
                pass
    return stories


def _check_endings(story: _Story, *, complete: bool) -> Iterator[Violation]:
    ends = [f"{one.outcome} by {one.token}" for one in story.accepted if one.outcome in TERMINAL]
    if story.cancelled:
        ends.append("cancelled while it waited")
    if len(ends) > 1:
        yield story.violation("ended_twice", ", ".join(ends))
    if complete and story.scheduled and not ends:
        yield story.violation("lost", f"scheduled at {story.scheduled[0].at}, never ended")


def _check_tokens(story: _Story) -> Iterator[Violation]:
    started: set[Token] = set()
    for start in story.started:
        if start.token in started:
            yield story.violation("started_twice", f"attempt {start.attempt} by {start.token}")
        started.add(start.token)
    seen: dict[Token, Accepted] = {}
    for one in story.accepted:
        if one.token is None:
            continue
        if one.token in seen:
            earlier = seen[one.token].outcome
            yield story.violation("token_twice", f"{earlier} and {one.outcome} by {one.token}")
        seen[one.token] = one
        if one.outcome == "done" and one.token not in started:
            yield story.violation("done_unstarted", f"no start under {one.token}")


def _check_starts(story: _Story, slack: float) -> Iterator[Violation]:
    for start in story.started:
        due = _due(story, start)
        if due is not None and start.at < due - slack:
            yield story.violation("early", f"attempt {start.attempt} at {start.at}, due {due}")
        for cancelled in _cancels(story):
            if start.at > cancelled + slack:
                detail = f"cancelled at {cancelled}, attempt {start.attempt} at {start.at}"
                yield story.violation("after_cancel", detail)


def _cancels(story: _Story) -> Iterator[float]:
    """When the task was cancelled: while it waited, or as an attempt's outcome."""
    yield from (one.at for one in story.cancelled)
    yield from (one.at for one in story.accepted if one.outcome == "cancelled")


def _due(story: _Story, start: Started) -> float | None:
    """When this start was due: as scheduled, or as the outcome before it said."""
    due = story.scheduled[0].due if story.scheduled else None
    for one in story.accepted:
        if one.at <= start.at and one.token != start.token and one.due is not None:
            due = one.due
    return due


def _check_overlap(story: _Story, slack: float) -> Iterator[Violation]:
    ends = {one.token: one.at for one in story.accepted if one.token is not None}
    spans = sorted(
        (start.at, ends[start.token], start.attempt)
        for start in story.started
        if start.token in ends
    )
    for (_, end, earlier), (begin, _, later) in pairwise(spans):
        if begin < end - slack:
            detail = f"attempt {later} began at {begin}, attempt {earlier} ended at {end}"
            yield story.violation("overlap", detail)


def _check_effects(story: _Story) -> Iterator[Violation]:
    had = {one.token for one in story.effects}
    for one in story.accepted:
        if one.outcome == "done" and one.token not in had:
            yield story.violation("no_effect", f"done by {one.token}, which did nothing")


def _check_limits(events: Iterable[Event], slack: float) -> Iterator[Violation]:
    """At each start, what runs on its node: by queue, and in all."""
    over = {(one.task, one.token): one.at - slack for one in events if isinstance(one, Stopped)}
    limits: dict[tuple[int, str | None], int] = {}
    running: dict[tuple[int, str | None], list[Started]] = {}
    course = [event for event in events if isinstance(event, Started | Limited)]
    for event in sorted(course, key=lambda one: (one.at, isinstance(one, Started))):
        if isinstance(event, Limited):
            limits[event.node, event.queue] = event.limit
            continue
        for place in ((event.node, event.queue), (event.node, None)):
            before = running.get(place, ())
            runs = [one for one in before if over.get((one.task, one.token), inf) > event.at]
            running[place] = runs = [*runs, event]
            if len(runs) > limits.get(place, inf):
                what = "in all" if place[1] is None else f"of {place[1]}"
                detail = f"{len(runs)} {what} on node {event.node} at {event.at}"
                yield Violation("limit", event.task, f"{detail}, limit {limits[place]}")


def _check_fires(
    events: Iterable[Event], expected: Iterable[tuple[str, float]]
) -> Iterator[Violation]:
    decided: dict[tuple[str, float], list[str]] = {}
    for event in events:
        if isinstance(event, FireDecided):
            decided.setdefault((event.recurring, event.fire_at), []).append(event.decision)
    for (recurring, fire_at), decisions in decided.items():
        if len(decisions) > 1:
            detail = f"{fire_at}: {', '.join(decisions)}"
            yield Violation("fired_twice", recurring, detail)
    for recurring, fire_at in expected:
        if (recurring, fire_at) not in decided:
            yield Violation("not_fired", recurring, f"{fire_at} was never decided")


def _read_one(path: Path) -> Iterator[Event]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield _decode(json.loads(line))


def _decode(data: dict[str, Any]) -> Event:
    kind = KINDS[data.pop("event")]
    known = {field.name for field in fields(kind)}
    values = {name: value for name, value in data.items() if name in known}
    if values.get("token") is not None:
        values["token"] = Token(*values["token"])
    return kind(**values)
