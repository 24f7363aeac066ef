"""See the plans of a repository's statements, and judge them: by index, and few rows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.sql import Literal
from sqlalchemy import event

from rota.storage.postgres import PostgresRepository
from rota.storage.postgres.connections import Session

BATCH = 100
#: A statement about a batch may look at its rows a few times over, not at the table.
FAIR = BATCH * 8
BIG = {"rota_task", "rota_body", "rota_unique", "rota_report", "rota_change"} | {
    "rota_recurring",
    "rota_decision",
    "rota_child",
}
Plan = dict[str, Any]
Record = Callable[[Callable[[], object]], list[Plan]]


def recorder(repository: PostgresRepository, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Runs something and returns the plans, executed and rolled back, of its statements.

    Of rota's own statements two: for these values, and as the server keeps it for any.
    """
    plain = Session.rows
    plans: list[Plan] = []

    def explained(session: Session, sql: str, **params: object) -> list[tuple[Any, ...]]:
        with undone(session.raw):
            (found,) = plain(session, f"explain (analyze, format json) {sql}", **params)
            plans.append(found[0][0]["Plan"])
        with undone(session.raw):
            plans.append(kept_plan(session, sql, params))
        return plain(session, sql, **params)

    def portable(conn: Any, cursor: Any, sql: str, params: Any, *_: object) -> None:
        raw = conn.connection.driver_connection
        with undone(raw):
            found = raw.execute(f"explain (analyze, format json) {sql}", params).fetchone()
            plans.append(found[0][0]["Plan"])

    def recorded(act: Callable[[], object]) -> list[Plan]:
        plans.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Session, "rows", explained)
            event.listen(engine, "before_cursor_execute", portable)
            try:
                act()
            finally:
                event.remove(engine, "before_cursor_execute", portable)
        return list(plans)

    engine = repository._connections._engine
    return recorded


@contextmanager
def undone(raw: psycopg.Connection[Any]) -> Iterator[None]:
    """A transaction, or a part of one, that is rolled back."""
    idle = raw.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    raw.execute("begin" if idle else "savepoint before")
    yield
    raw.execute("rollback" if idle else "rollback to before")


def kept_plan(session: Session, sql: str, params: dict[str, object]) -> Plan:
    """The plan of the prepared statement, made without a look at the values."""
    values = {**params, "offset": 0.0}
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)[sb]", sql)))
    numbered = re.sub(r"%\((\w+)\)[sb]", lambda found: f"${names.index(found[1]) + 1}", sql)
    given = [Literal(values[name]).as_string(session.raw) for name in names]
    # psycopg says of what type a number or text is; here the places have to.
    kinds = ["float8" if isinstance(values[name], float) else "unknown" for name in names]
    session.raw.execute("set local plan_cache_mode = force_generic_plan")
    session.raw.execute(f"prepare kept({', '.join(kinds)}) as {numbered}")
    call = f"kept({', '.join(given)})" if given else "kept"
    row = session.raw.execute(f"explain (analyze, format json) execute {call}").fetchone()
    session.raw.execute("deallocate kept")
    assert row is not None
    plan: Plan = row[0][0]["Plan"]
    return plan


def scans(plan: Plan) -> Iterator[Plan]:
    """Every scan of one of the big tables, below this node."""
    if plan.get("Relation Name") in BIG and "Scan" in plan["Node Type"]:
        yield plan
    for child in plan.get("Plans", ()):
        yield from scans(child)


def touched(scan: Plan) -> float:
    """How many rows it looked at, those it threw away included."""
    filtered = scan.get("Rows Removed by Filter", 0) + scan.get("Rows Removed by Index Recheck", 0)
    return float((scan["Actual Rows"] + filtered) * scan["Actual Loops"])


def assert_by_index(plans: list[Plan], *, touching: bool = True) -> None:
    """No table is scanned; ``touching``: at least one statement looks at one of them."""
    found = [scan for plan in plans for scan in scans(plan)]
    assert found or not touching, "no statement touched the tasks"
    for scan in found:
        assert scan["Node Type"] != "Seq Scan", json.dumps(scan)
        assert touched(scan) <= FAIR, json.dumps(scan)
