"""What looking costs over a long history: counts, pages, groups of failures."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import rota
from benchmarks.figures import part
from benchmarks.history_fill import QUEUES, fill
from benchmarks.noops import COROUTINE, noop_works
from benchmarks.place import Place, WrongResult

#: Unfinished tasks beside the history, of which so many are worked on.
WAITING, WORKING = 20_000, 100
PAGE, PAGES = 100, 100
LOOKS = 15
#: A look that takes long is repeated for no longer than so many seconds.
ENOUGH = 3.0

Look = Callable[[], Awaitable[Any]]


async def history(place: Place, *, tasks: int) -> dict[str, Any]:
    """The 50th percentile of each kind of look at so many finished tasks, through a client."""
    fill(place, tasks)
    figures: dict[str, Any] = {"tasks": tasks}
    async with _client(place) as client:
        for name, look in (await _looks(client)).items():
            figures[f"{name}_p50_ms"] = await _p50_ms(look)
    slowest = max((name for name in figures if name.endswith("_ms")), key=figures.__getitem__)
    return {**figures, "slowest_ms": figures[slowest], "slowest": slowest}


@asynccontextmanager
async def _client(place: Place) -> AsyncIterator[rota.Scheduler]:
    """A client of the history, with tasks that wait and tasks that are worked on."""
    async with rota.Scheduler(noop_works(), place.url, queues=[], **place.options) as client:
        for number in range(QUEUES):
            some: list[tuple[str, dict[str, Any]]] = [(COROUTINE, {})] * (WAITING // QUEUES)
            await client.schedule_many(some, queue=f"queue-{number}")
        await client.claim(["queue-0"], WORKING, lease=3_600)
        yield client


async def _looks(client: rota.Scheduler) -> dict[str, Look]:
    """Every look that is timed, by name."""
    ended = (await client.find(state="done", limit=1)).tasks[0]
    families = await client.find(state="done", limit=PAGE)
    family = next((task.parent for task in families if task.parent), None)
    hundredth = await _cursor(client)
    now = datetime.now(UTC)
    yesterday = now - timedelta(days=1)
    filters: dict[str, dict[str, Any]] = {
        "first_page": {},
        "page_100": {"after": hundredth},
        "oldest_first": {"newest_first": False},
        **{f"state_{state}": {"state": state} for state in ("done", "failed", "cancelled")},
        "state_working": {"state": "working"},
        "queue": {"queue": "queue-3"},
        "work": {"work": "work.13"},
        "work_failed": {"work": "work.13", "state": "failed"},
        "rare_queue": {"queue": "rare"},
        "rare_work": {"work": "rare", "state": "done"},
        "meta": {"meta": {"tenant": 8}},
        "parent": {"parent": family},
        "recurring": {"recurring": "nightly-3"},
        "created": {"created_after": yesterday, "created_before": now},
        "due": {"due_after": yesterday},
        "finished": {"finished_after": yesterday},
        "finished_hour": {
            "finished_after": yesterday,
            "finished_before": yesterday + timedelta(hours=1),
        },
        "finished_before": {"state": "done", "finished_before": now - timedelta(days=6)},
        "failed_hour": {"state": "failed", "finished_after": now - timedelta(hours=3)},
    }
    looks: dict[str, Look] = {
        "counts": lambda: client.counts("queue"),
        "counts_by_work": lambda: client.counts("work"),
        "counts_day": lambda: client.counts("queue", since=86_400),
        "counts_unfinished": client.counts,
        "failures": client.failures,
        "failures_day": lambda: client.failures(since=86_400),
        "by_id": lambda: client.info(ended.id),
        "by_key": lambda: client.find(unique="no such key"),
    }
    return looks | {name: _find(client, given) for name, given in filters.items()}


def _find(client: rota.Scheduler, given: dict[str, Any]) -> Look:
    async def look() -> Any:
        return await client.find(limit=PAGE, **given)

    return look


async def _cursor(client: rota.Scheduler) -> str | None:
    """Where the 100th page of everything begins; the last one, if there are fewer."""
    after: str | None = None
    for _ in range(PAGES - 1):
        page = await client.find(limit=PAGE, after=after)
        if page.next is None:
            break
        after = page.next
    if after is None:
        raise WrongResult(f"all that was filled in is on one page of {PAGE}")
    return after


async def _p50_ms(look: Look) -> float:
    """Of a few looks in turn, after one that prepares the statement."""
    await look()
    took: list[float] = []
    until = time.perf_counter() + ENOUGH
    while len(took) < LOOKS and (not took or time.perf_counter() < until):
        began = time.perf_counter()
        await look()
        took.append(time.perf_counter() - began)
    return round(part(took, 0.5) * 1000, 2)
