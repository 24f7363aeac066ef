"""Say what must have been scheduled, and hear what was instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from rota.app.scheduler import Scheduler
from rota.background import BackgroundScheduler
from rota.core.clock import Seconds, instant, seconds
from rota.core.finding import PAGE_LIMIT, TaskFilter
from rota.core.ports import Repository
from rota.core.task import Task
from rota.errors import InvalidArgument, InvalidParams, SchedulerNotRunning
from rota.registry import Bound, Work

#: A failure tells of so many tasks.
SHOWN = 5


class _Wanted(NamedTuple):
    """What a task must be like; None where anything goes."""

    work: str
    params: Mapping[str, Any] | None
    at: datetime | None
    queue: str | None
    within: float

    def misses(self, task: Task) -> list[str]:
        """How the task differs, each as ``field is this, not that``."""
        found: list[str] = []
        if self.params is not None and dict(self.params) != task.params:
            found += _params_apart(self.params, task.params)
        if self.queue is not None and task.queue != self.queue:
            found.append(f"queue is {task.queue!r}, not {self.queue!r}")
        if self.at is not None and abs((task.due_at - self.at).total_seconds()) > self.within:
            late = (task.due_at - self.at).total_seconds()
            apart = f"{abs(late):g} s {'late' if late > 0 else 'early'}"
            found.append(f"at is {task.due_at.isoformat()}, {apart}")
        return found

    def __str__(self) -> str:
        said = [repr(self.work)]
        if self.params is not None:
            said.append(f"params={dict(self.params)!r}")
        if self.at is not None:
            said.append(f"at={self.at.isoformat()}")
        if self.queue is not None:
            said.append(f"queue={self.queue!r}")
        return ", ".join(said)


def assert_scheduled(
    scheduler: Scheduler | BackgroundScheduler,
    work: str | Work[..., Any] | Bound[Any],
    *,
    params: Mapping[str, Any] | None = None,
    at: datetime | None = None,
    queue: str | None = None,
    times: int | None = None,
    within: Seconds = 1.0,
) -> list[Task]:
    """Assert that such tasks were scheduled, ended or not; returns them by id.

    ``work`` is an id, a work, or a bound work, which says the ``params``, too. ``params`` are
    compared whole, with values like ``unittest.mock.ANY`` as wildcards; ``at`` is the time
    asked for, give or take ``within`` seconds. ``times`` is how often (None: at least
    once; 0: never). Reads the database, blocking, also on the event loop: for tests only.

    Raises ``AssertionError`` that names what was scheduled instead and how it differs, and
    ``SchedulerNotRunning``.
    """
    __tracebackhide__ = True
    asyncio_face = scheduler.scheduler if isinstance(scheduler, BackgroundScheduler) else scheduler
    work_id, asked = _asked(asyncio_face, work, params)
    wanted = _Wanted(
        work_id,
        asked,
        None if at is None else instant(at, "at"),
        queue,
        seconds(within, "within"),
    )
    repository = _repository(asyncio_face)
    tasks = list(_all(repository, TaskFilter(work=work_id)))
    fit = [task for task in tasks if not wanted.misses(task)]
    if len(fit) == times or (times is None and fit):
        return fit
    raise AssertionError("\n".join(_told(repository, wanted, times, fit, tasks)))


def _asked(
    scheduler: Scheduler, work: object, params: Mapping[str, Any] | None
) -> tuple[str, Mapping[str, Any] | None]:
    """The work's id as tasks have it, and the params in their JSON form."""
    if isinstance(work, Bound):
        if params is not None:
            raise InvalidArgument("params are in the bound work already", field="params")
        return scheduler.works.id_of(work.work), work.params
    work_id = scheduler.works.id_of(work) if isinstance(work, Work) else str(work)
    known = scheduler.works.find(work_id)
    if known is None or params is None:
        return work_id, params
    try:
        return work_id, known.signature.adopt(dict(params))
    except InvalidParams:
        return work_id, params  # wildcards are no params


def _repository(scheduler: Scheduler) -> Repository:
    house = scheduler._house  # noqa: SLF001 - the one look into a scheduler that its verbs do not give
    if house is None:
        raise SchedulerNotRunning(
            "the scheduler is not running, so there is no database to look in; assert before it "
            "is shut down"
        )
    return house.repository


def _all(repository: Repository, where: TaskFilter) -> Iterator[Task]:
    after = None
    while True:
        page = repository.find(where, PAGE_LIMIT, after, newest_first=False)
        yield from page.tasks
        after = page.next
        if after is None:
            return


def _told(
    repository: Repository,
    wanted: _Wanted,
    times: int | None,
    fit: Sequence[Task],
    tasks: Sequence[Task],
) -> Iterator[str]:
    often = "at least once" if times is None else _count(times)
    yield f"{wanted} was to be scheduled {often}, and was {_count(len(fit))}"
    if fit:
        yield "these fit:"
        yield from _listed([_shown(task) for task in fit])
    apart = [(wanted.misses(task), task) for task in tasks if task not in fit]
    near = sorted(apart, key=lambda one: len(one[0]))
    if near and (times is None or len(fit) < times):
        yield f"near misses, {len(near)} of the same work:"
        yield from _listed([f"{task.id}: {'; '.join(misses)}" for misses, task in near])
    elif not tasks:
        yield from _others(repository)


def _others(repository: Repository) -> Iterator[str]:
    counts: dict[str, int] = {}
    for task in _all(repository, TaskFilter()):
        counts[task.work] = counts.get(task.work, 0) + 1
    if not counts:
        yield "nothing was scheduled at all"
        return
    yield "no task of this work was scheduled, but:"
    yield from _listed([f"{work!r} {_count(n)}" for work, n in sorted(counts.items())])


def _listed(lines: Sequence[str]) -> Iterator[str]:
    yield from (f"  {line}" for line in lines[:SHOWN])
    if len(lines) > SHOWN:
        yield f"  and {len(lines) - SHOWN} more"


def _params_apart(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            yield f"params lack {name!r}"
        elif name not in wanted:
            yield f"params have {name!r} too, {found[name]!r}"
        elif wanted[name] != found[name]:
            yield f"params[{name!r}] is {found[name]!r}, not {wanted[name]!r}"


def _shown(task: Task) -> str:
    return (
        f"{task.id}: {task.status}, params {task.params!r}, at {task.due_at.isoformat()}, "
        f"queue {task.queue!r}"
    )


def _count(n: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(n, f"{n} times")
