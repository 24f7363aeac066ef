"""rota inside a service: health, threads, a plain script, and nothing of the process touched."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from rota import BackgroundScheduler, Context, Scheduler, WorkRegistry
from rota.control.health import Health
from rota.core.caller import CallingThread
from rota.core.clock import SystemClock
from rota.core.request import ScheduleRequest
from rota.errors import InvalidArgument, SchedulerNotRunning, UnsupportedUrl, WrongThread
from rota.storage.postgres import PostgresRepository
from rota.testing.postgres_server import PostgresServer
from tests.app.callers import default_driver, sync_engine
from tests.conftest import Database

PATIENCE = 20
ROOT = Path(__file__).resolve().parents[2]


def background(database: Database, works: WorkRegistry, **options: Any) -> BackgroundScheduler:
    return BackgroundScheduler(works, database.target, **database.options, **options)


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rota-loop"]


@pytest.fixture
def works() -> WorkRegistry:
    works = WorkRegistry()

    @works.register("double")
    def double(n: int) -> int:
        return 2 * n

    return works


# Health


async def until(scheduler: Scheduler, wanted: Callable[[Health], bool]) -> Health:
    """Each look asks the database, so this does not spin."""
    async with asyncio.timeout(40):
        while not wanted(health := await scheduler.health()):
            pass
    return health


async def test_health_while_the_database_goes_and_comes_back(works: WorkRegistry) -> None:
    with PostgresServer() as server:
        repository = PostgresRepository(server.url, clock=SystemClock())
        repository.upgrade()
        repository.close()
        async with Scheduler(works, server.url, lease=3, heartbeat=1, poll=1) as scheduler:
            assert (await until(scheduler, lambda health: health.ready)).troubles == ()
            server.stop()
            gone = await until(scheduler, lambda health: not health.ready)
            assert gone.live
            assert any(trouble.startswith("database:") for trouble in gone.troubles)
            assert gone.backlog_age is None
            await until(scheduler, lambda health: any("rota-" in item for item in health.troubles))
            server.start()
            back = await until(scheduler, lambda health: health.ready)
            assert back.troubles == ()
            handle = await scheduler.schedule("double", {"n": 2})
            assert await handle.result(timeout=PATIENCE) == 4


async def test_a_probe_does_not_hang_with_the_database(
    works: WorkRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Scheduler(works, queues=[]) as scheduler:
        repository, answer = scheduler._house.repository, threading.Event()  # type: ignore[union-attr]
        agenda = repository.agenda

        def hanging(queues: Any) -> Any:
            answer.wait(PATIENCE)
            return agenda(queues)

        monkeypatch.setattr(repository, "agenda", hanging)
        health = await scheduler.health()
        answer.set()
        assert health.live
        assert not health.ready
        assert health.troubles == ("database: no answer within 2 s",)
        monkeypatch.undo()
        assert (await scheduler.health()).ready


async def test_health_tells_the_backlogs_age(database: Database) -> None:
    async with database.scheduler(WorkRegistry(), queues=["q"], allow_unknown=True) as scheduler:
        repository = scheduler._house.repository  # type: ignore[union-attr]
        repository.pause_queue("q", "held")
        await scheduler.schedule("w", queue="q")
        assert (await scheduler.health()).backlog_age == 0.0
    async with database.scheduler(WorkRegistry(), queues=[]) as client:
        assert (await client.health()).ready


# A service without a loop


SCRIPT = """
import logging, signal, sys, threading
from rota import BackgroundScheduler, WorkRegistry

works = WorkRegistry()

@works.register("double")
def double(n: int) -> int:
    return 2 * n

@works.register("triple")
async def triple(n: int) -> int:
    return 3 * n

signals = {number: signal.getsignal(number) for number in signal.valid_signals()}
with BackgroundScheduler(works, sys.argv[1]) as scheduler:
    print(scheduler.schedule(double.bind(21)).result(timeout=20))
    print(scheduler.schedule("triple", {"n": 5}).result(timeout=20))
    handles = scheduler.schedule_many([double.bind(n) for n in range(5)])
    print([handle.result(timeout=20) for handle in handles])
    assert signals == {number: signal.getsignal(number) for number in signal.valid_signals()}
    assert not logging.getLogger().handlers
    for name in logging.root.manager.loggerDict:
        if name.startswith("rota"):
            for handler in logging.getLogger(name).handlers:
                assert isinstance(handler, logging.NullHandler), name
            assert logging.getLogger(name).level == logging.NOTSET, name
print([thread.name for thread in threading.enumerate()])
"""


def run_as_script(program: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, url],
        check=False,
        capture_output=True,
        text=True,
        timeout=40,
        cwd=ROOT,
    )


def test_a_plain_script_ends_by_itself_and_finds_its_process_untouched(tmp_path: Path) -> None:
    done = run_as_script(SCRIPT, f"sqlite:///{tmp_path / 'a.db'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["42", "15", "[0, 2, 4, 6, 8]", "['MainThread']"]


AT_EXIT = """
import atexit, sys
from rota import BackgroundScheduler, WorkRegistry
scheduler = BackgroundScheduler(WorkRegistry(), sys.argv[1])
scheduler.start()
atexit.register(scheduler.shutdown)
"""


def test_a_service_may_shut_it_down_when_its_interpreter_ends(durable: Database) -> None:
    """No executor takes anything any more by then."""
    schema = durable.options.get("schema")
    url = str(durable.target) + (f"&options=-csearch_path%3D{schema}" if schema else "")
    witness = durable.repository()
    done = run_as_script(AT_EXIT, url)
    assert (done.returncode, done.stderr) == (0, "")
    assert witness.nodes() == []


def test_a_start_that_fails_leaves_nothing_running(tmp_path: Path, works: WorkRegistry) -> None:
    missing = BackgroundScheduler(works, f"sqlite:///{tmp_path / 'missing' / 'a.db'}")
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="does not exist"):
            missing.start()
        assert loop_threads() == []
        with pytest.raises(SchedulerNotRunning):
            missing.schedule("double", {"n": 1})
    (tmp_path / "missing").mkdir()
    with missing as scheduler:
        assert scheduler.schedule("double", {"n": 1}).result(timeout=PATIENCE) == 2
    with pytest.raises(UnsupportedUrl):
        BackgroundScheduler(works, "mongodb://host/db").start()
    assert loop_threads() == []


def test_an_exception_in_its_block_still_shuts_it_down(
    durable: Database, works: WorkRegistry
) -> None:
    with pytest.raises(ZeroDivisionError), background(durable, works):
        raise ZeroDivisionError
    assert loop_threads() == []


def test_it_starts_again_after_a_shutdown(durable: Database, works: WorkRegistry) -> None:
    scheduler = background(durable, works)
    nodes = set()
    for n in range(3):
        scheduler.start()
        scheduler.start()
        nodes.add(scheduler.scheduler.node)
        assert scheduler.schedule("double", {"n": n}).result(timeout=PATIENCE) == 2 * n
        scheduler.shutdown()
        scheduler.shutdown()
        assert loop_threads() == []
        with pytest.raises(SchedulerNotRunning):
            scheduler.schedule("double", {"n": n})
    assert len(nodes) == 3


def test_many_threads_share_it(database: Database, works: WorkRegistry) -> None:
    with background(database, works) as scheduler, ThreadPoolExecutor(16) as pool:

        def use(n: int) -> list[int]:
            handles = [scheduler.schedule("double", {"n": n + m}) for m in range(5)]
            return [handle.result(timeout=PATIENCE) for handle in handles]

        results = list(pool.map(use, range(32)))
    assert results == [[2 * (n + m) for m in range(5)] for n in range(32)]


def test_its_own_loop_may_not_wait_for_itself(database: Database) -> None:
    works, told = WorkRegistry(), []
    schedulers: list[BackgroundScheduler] = []

    @works.register("wrong")
    async def wrong() -> str:
        try:
            schedulers[0].schedule("wrong")
        except WrongThread as error:
            told.append(error)
        return "ended"

    with background(database, works) as scheduler:
        schedulers.append(scheduler)
        assert scheduler.schedule("wrong").result(timeout=PATIENCE) == "ended"
        assert scheduler.counts()["scheduled"] == 0
    assert len(told) == 1


def test_a_coroutine_work_completes_although_a_thread_started_its_loop(
    durable: Database,
) -> None:
    """Its context is a copy of the start's, whose thread waits no more."""
    works = WorkRegistry()

    @works.register("pay", transactional=True)
    async def pay(ctx: Context) -> str:
        with sync_engine(durable, default_driver(durable)) as engine, Session(engine) as session:
            await ctx.complete(connection=session, result="completed")
            session.commit()
        return "not this"

    with background(durable, works) as scheduler:
        assert scheduler.schedule("pay").result(timeout=PATIENCE) == "completed"


# A service with a loop and threads


async def test_threads_of_a_service_use_its_blocking_face(
    database: Database, works: WorkRegistry
) -> None:
    async with database.scheduler(works) as scheduler:
        blocking = scheduler.blocking
        with pytest.raises(WrongThread):
            blocking.schedule("double", {"n": 1})

        def endpoint(n: int) -> tuple[int, str]:
            handle = blocking.schedule("double", {"n": n})
            result = handle.result(timeout=PATIENCE)
            return result, blocking.info(handle.id).status

        answers = await asyncio.gather(*(asyncio.to_thread(endpoint, n) for n in range(20)))
        assert answers == [(2 * n, "done") for n in range(20)]
        assert await asyncio.to_thread(blocking.health)
        assert (await asyncio.to_thread(blocking.counts))["scheduled"] == 0

    def too_late() -> None:
        blocking.schedule("double", {"n": 1})

    with pytest.raises(SchedulerNotRunning):
        await asyncio.to_thread(too_late)


async def test_the_callers_context_travels_through_the_schedule_side(
    database: Database, works: WorkRegistry
) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")

    def stamp(request: ScheduleRequest, call_next: Any) -> Any:
        return call_next(request.replace(meta={"tenant": tenant.get()}))

    async with database.scheduler(works, queues=[], middleware=[stamp]) as scheduler:

        def endpoint(name: str) -> str:
            tenant.set(name)
            return scheduler.blocking.schedule("double", {"n": 1}).id

        ids = await asyncio.gather(*(asyncio.to_thread(endpoint, name) for name in "abc"))
        tenant.set("loop")
        here = await scheduler.schedule("double", {"n": 1})
        many = await scheduler.schedule_many([("double", {"n": 1})])
        soon = await scheduler.schedule_soon("double", {"n": 1})
        await scheduler.flush()
        metas = [(await scheduler.info(task_id)).meta for task_id in ids]
        metas += [(await handle.info()).meta for handle in (here, many[0], soon)]
    assert metas == [{"tenant": name} for name in ("a", "b", "c", "loop", "loop", "loop")]


async def test_a_thread_that_is_torn_away_leaves_its_connection_alone() -> None:
    caller, torn = CallingThread(), threading.Event()

    def serve() -> None:
        try:
            caller.serve()
        except KeyboardInterrupt:
            torn.set()

    def interrupted() -> None:
        raise KeyboardInterrupt

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(WrongThread):
        await caller.run(interrupted)
    await asyncio.to_thread(thread.join, PATIENCE)
    assert torn.is_set()
    with pytest.raises(WrongThread):
        await caller.run(lambda: "must not run here")
