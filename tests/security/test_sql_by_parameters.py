"""What a user says goes into SQL as a parameter: no statement's text ever has any of it."""

from __future__ import annotations

import ast
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

import rota
from rota import Every
from rota.core.clock import SystemClock
from rota.core.recurring import Definition
from rota.core.task import Ending, Membership
from rota.errors import RotaError
from rota.testing.conformance.setting import PLAIN, NodeHandle, a_task
from tests.conftest import Database
from tests.security.sweep import book, calls, verbs

MARK = "zq7mark"
#: One that passes as a name wherever names are checked, and one that would do harm.
TEXTS = [MARK, f"{MARK}'\"); drop table rota_task; -- %s %(x)s {{}} ${MARK}$"]
PATIENCE = 30


class Recorder:
    """The statements the drivers were given, and how often their parameters had the mark."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self.bound = 0

    def hear(self, text: object, params: object) -> None:
        self.texts.add(str(text))
        self.bound += repr(params).count(MARK)

    def marked(self) -> list[str]:
        return [text for text in self.texts if MARK in text]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    _record_sqlite(made, monkeypatch)
    for name in ("execute", "executemany"):
        _record_psycopg(made, name, monkeypatch)
    return made


def _record_sqlite(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, params: Any = (), /) -> Any:
            recorder.hear(sql, params)
            return super().execute(sql, params)

        def executemany(self, sql: str, params: Any, /) -> Any:
            rows = [*params]
            recorder.hear(sql, rows)
            return super().executemany(sql, rows)

        def executescript(self, sql: str, /) -> Any:
            recorder.hear(sql, ())
            return super().executescript(sql)

    class Connection(sqlite3.Connection):
        """Its own short forms go past ``cursor``."""

        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def execute(self, *args: Any) -> Any:
            return self.cursor().execute(*args)

        def executemany(self, *args: Any) -> Any:
            return self.cursor().executemany(*args)

        def executescript(self, *args: Any) -> Any:
            return self.cursor().executescript(*args)

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **how: connect(*args, **{**how, "factory": Connection})
    )


def _record_psycopg(recorder: Recorder, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right: Callable[..., Any] = getattr(psycopg.Cursor, name)

    def heard(self: Any, query: Any, params: Any = None, **how: Any) -> Any:
        if name == "executemany":
            params = [*params]
        recorder.hear(query, params)
        return right(self, query, params, **how)

    monkeypatch.setattr(psycopg.Cursor, name, heard)


@pytest.fixture(params=["sqlite", "postgres"])
def recorded(
    recorder: Recorder, request: pytest.FixtureRequest, make_database: Callable[..., Database]
) -> Iterator[Database]:
    made = make_database(request.param, SystemClock())
    yield made
    made.close()


def by_hand(database: Database) -> None:
    """What this guard must see."""
    statement = f"select '{MARK}'"
    if database.kind == "sqlite":
        connection = sqlite3.connect(":memory:")
        connection.execute(statement)
        connection.close()
    else:
        with psycopg.connect(str(database.target)) as conn:
            conn.execute(statement)  # type: ignore[call-overload]


def test_this_guard_sees_what_is_pasted(recorded: Database, recorder: Recorder) -> None:
    by_hand(recorded)
    assert recorder.marked() == [f"select '{MARK}'"]


async def test_no_verb_pastes_what_it_is_told(recorded: Database, recorder: Recorder) -> None:
    async with recorded.scheduler(book(), queues=[]) as scheduler:
        for name in verbs():
            for text in TEXTS:
                for how in calls(name, text):
                    with suppress(RotaError):
                        await getattr(scheduler, name)(**how)
    assert recorder.marked() == []
    assert recorder.bound > 30
    assert len(recorder.texts) > 30


async def test_no_run_pastes_what_it_is_told(recorded: Database, recorder: Recorder) -> None:
    """Params, meta, keys, results, reasons, errors, reports, a node's name: once around."""
    works = book()

    @works.register("report")
    async def report(ctx: rota.Context, text: str) -> None:
        await ctx.report({text: text})
        await ctx.spawn("echo", {"text": text}, key=text)

    async with recorded.scheduler(works, name=TEXTS[1], concurrency=20) as scheduler:
        for text in TEXTS:
            handles = [
                await scheduler.schedule(
                    work, {"text": text}, meta={text: text}, unique=f"{work} {text}"
                )
                for work in ("echo", "fail", "break", "report")
            ]
            for handle in handles:
                await handle.wait(timeout=PATIENCE)
            assert [one.params for one in await scheduler.find(meta={text: text})]
            await scheduler.pause_queue("default", text)
            again = await scheduler.add_recurring(
                text, "echo", Every(3600), {"text": text}, meta={text: text}, queue=MARK
            )
            await again.trigger_now()
            await again.change(params={"text": text + text})
            assert len(await again.children()) == len(await again.decisions()) == 1
            await again.pause()
            await again.remove()
            waits = await scheduler.schedule("echo", {"text": text}, delay=60)
            await waits.update(params={"text": text + text})
            await waits.cancel(text)
            await scheduler.resume_queue("default")
    assert recorder.marked() == []
    assert recorder.bound > 20


def test_no_repository_pastes_what_it_is_told(recorded: Database, recorder: Recorder) -> None:
    """Also where the verbs would refuse such a name."""
    repository = recorded.repository()
    node = NodeHandle(repository)
    for n, text in enumerate(TEXTS):
        fire_at = datetime(2026, 11, 22, tzinfo=UTC)
        fields: dict[str, Any] = dict.fromkeys(("work", "queue", "unique", "recurring"), text)
        task = a_task(params=f'{{"{MARK}":1}}', fire_at=fire_at, **fields)
        repository.insert([task])
        repository.insert([task], repeated=True)
        repository.pause_queue(text, text)
        repository.resume_queue(text)
        (claimed,) = node.claim(queue=text)
        repository.cancel(task.id, text)
        node.end(claimed, Ending.CANCELLED, reason=text)
        definition = Definition(text, text, "{}", "{}", PLAIN, text, 0, next_fire_at=None)
        repository.put_recurring(definition)
        repository.remove_recurring(text)
        repository.join(Membership(4711 + n, text, text, 1, 60.0, text))
        repository.take_chore(text, 1.0)
        repository.agenda([text])
        repository.claim_parked(node.id, 100 + n, [text], 5, 1.0)
    assert recorder.marked() == []
    assert recorder.bound > 20


# --- what is built into statements, as the source says ------------------------------------

STORAGE = Path(rota.__file__).parent / "storage"
EXECUTE = {"execute", "executemany", "executescript", "exec_driver_sql", "rows", "script", "text"}
#: Where a statement is put together as it is executed: of names that are not users' words.
PUT_TOGETHER = {
    # This file's own settings.
    ("postgres/connections.py", "name"),
    ("schema/ledger.py", "_UPGRADE_LOCK"),
    # `rota_` and two hashes.
    ("postgres/signals.py", "self._channel"),
    # Tables of rota's, and the clock's expression.
    ("postgres/repository.py", "NOW"),
    ("postgres/upkeep.py", "NOW"),
    ("sqlite/ending.py", "'insert or replace'"),
    ("sqlite/ending.py", "'insert'"),
    ("sqlite/ending.py", "table"),
    ("sqlite/keeping.py", "each"),
    ("sqlite/keeping.py", "table"),
    # One of four words.
    ("sqlite/connections.py", "self._synchronous"),
    # A checked schema's name.
    ("postgres/condition.py", "ledger.prefix(schema)"),
}


def put_together(tree: ast.AST) -> Iterator[str]:
    """The expressions within texts that are built in the call that executes them."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        if node.func.attr not in EXECUTE:
            continue
        text = node.args[0]
        if isinstance(text, ast.JoinedStr):
            yield from (
                ast.unparse(part.value)
                for part in text.values
                if isinstance(part, ast.FormattedValue)
            )
        elif isinstance(text, ast.BinOp) and not isinstance(text.right, ast.Constant):
            yield ast.unparse(text.right)
        elif (
            isinstance(text, ast.Call)
            and isinstance(text.func, ast.Attribute)
            and text.func.attr == "format"
        ):
            yield from (ast.unparse(word.value) for word in text.keywords)
            yield from map(ast.unparse, text.args)


@pytest.mark.parametrize(
    "source",
    [
        "conn.execute(f'select {x}')",
        "conn.execute('select %s' % x)",
        "conn.execute('select ' + x)",
        "session.rows('select {0}'.format(x))",
        "driver.executemany('select {x}'.format(x=x), [])",
    ],
)
def test_this_guard_sees_what_is_put_together(source: str) -> None:
    assert list(put_together(ast.parse(source))) == ["x"]


def test_no_statement_is_put_together_where_it_is_executed() -> None:
    found = {
        (path.relative_to(STORAGE).as_posix(), part)
        for path in STORAGE.rglob("*.py")
        for part in put_together(ast.parse(path.read_text()))
    }
    assert found <= PUT_TOGETHER
