"""What a node costs that has nothing to do."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg

import rota
from benchmarks.noops import noop_works
from benchmarks.place import Place

#: The start's own statements are over by then.
SETTLED = 2.5
#: SQLite's way to ask whether another process has written: a number in shared memory.
_VERSION = "pragma data_version"
#: So many statements are named, by so many of their first characters.
MOST_OFTEN, HEAD = 8, 70

#: A bare thread wakes so many times, after so many seconds each.
WAKES, EVERY = 12, 0.25

Look = Callable[[], Counter[str]]


async def idle(place: Place, *, tasks: int) -> dict[str, Any]:
    """Statements and processor time of an idle node with default settings; ``tasks`` seconds."""
    with _counting(place) as look:
        async with rota.Scheduler(noop_works(), place.url, **place.options):
            await asyncio.sleep(SETTLED)
            before, cpu, began = look(), time.process_time(), time.perf_counter()
            await asyncio.sleep(tasks)
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
            counted = look() - before
    reads = counted.pop(_VERSION, 0)
    figures = {
        "bare_wake_ms": round(await asyncio.to_thread(_bare_wake), 3),
        "statements_per_s": round(counted.total() / took, 2),
        "cpu_ms_per_s": round(cpu / took * 1000, 2),
        "seconds": round(took, 1),
        "most_often": {text: round(n / took, 2) for text, n in counted.most_common(MOST_OFTEN)},
    }
    if place.kind == "sqlite":
        figures["version_reads_per_s"] = round(reads / took, 2)
    return figures


def _bare_wake() -> float:
    """Processor time, in ms, of one wake-up of a thread that does nothing else.

    An idle node is made of these, and what they cost differs by a factor of ten from one
    virtual machine, and one hour, to the next.
    """
    nothing = threading.Event()
    began = time.thread_time()
    for _ in range(WAKES):
        nothing.wait(EVERY)
    return (time.thread_time() - began) / WAKES * 1000


@contextmanager
def _counting(place: Place) -> Iterator[Look]:
    if place.kind == "sqlite":
        with _counting_sqlite() as counted:
            yield counted.copy
    else:
        yield _counting_postgres(place)


@contextmanager
def _counting_sqlite() -> Iterator[Counter[str]]:
    """Every statement of every connection that is opened meanwhile."""
    counted: Counter[str] = Counter()
    connect = sqlite3.connect

    def note(statement: str) -> None:
        counted[statement.lower()[:HEAD]] += 1

    def counted_connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        connection.set_trace_callback(note)
        return connection

    sqlite3.connect = counted_connect  # type: ignore[assignment]
    try:
        yield counted
    finally:
        sqlite3.connect = connect


def _counting_postgres(place: Place) -> Look:
    """The server's own count, of everybody's statements; without it, of transactions."""
    sql = f"""select coalesce(json_object_agg(text, n), '{{{{}}}}') from (
      select left(query, {HEAD}) as text, sum(calls)::bigint as n from pg_stat_statements s
      join pg_database d on d.oid = s.dbid
      where d.datname = current_database() and query !~ 'pg_stat_statements' group by 1) x"""
    try:
        with closing(place.connect()) as connection:
            connection.execute("create extension if not exists pg_stat_statements")
        place.value(sql)
    except psycopg.Error:
        # Whoever looks is counted, too: one in so many seconds.
        sql = """select json_build_object('transactions', xact_commit)
          from pg_stat_database where datname = current_database()"""
    return lambda: Counter(place.value(sql))
