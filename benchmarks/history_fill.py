"""Fill the history by SQL, as months of a busy service would have left it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from benchmarks.place import Place
from rota.core.clock import SystemClock
from rota.storage.chores import TIDY
from rota.storage.folding import FOLDS, KEPT_DAYS
from rota.storage.open import open_repository
from rota.storage.postgres import PostgresRepository

QUEUES, WORKS, TENANTS = 10, 50, 1_000
#: Done and cancelled tasks ended within so many days, failed ones within so many.
DONE_DAYS, FAILED_DAYS = 7, 30
#: Of 100 tasks so many failed, and so many were cancelled.
FAILED, CANCELLED = 7, 3
#: Of so many tasks one has the rare queue and work; families are of so many.
RARE, FAMILY = 100_000, 20
#: Rows of one statement.
SLICE = 500_000
_DAY = 86_400.0


@dataclass(frozen=True)
class Dialect:
    """How one database spells what the statements are made of; ``n`` is a row's number."""

    numbers: str  #: a table ``g(n)`` of the numbers from {first} up to {end}
    instant: str  #: an instant from seconds since 1970
    uuid: str  #: an id from the milliseconds {ms} and the number {n}
    meta: str  #: JSON text as the column has it


POSTGRES = Dialect(
    numbers="generate_series({first}::bigint, {end} - 1) as g(n)",
    instant="to_timestamp({seconds})",
    uuid="(lpad(to_hex(floor({ms})::bigint), 12, '0') || '7' || lpad(to_hex(({n}) % 4096), 3, '0')"
    " || '8' || lpad(to_hex(({n})::bigint), 15, '0'))::uuid",
    meta="({json})::jsonb",
)
SQLITE = Dialect(
    numbers="(with recursive c(n) as (select {first} union all select n + 1 from c"
    " where n + 1 < {end}) select n from c) as g",
    instant="cast(({seconds}) * 1000000 as integer)",
    # As canonical text: 8-4-4-4-12.
    uuid="printf('%08x-%04x-7%03x-8%03x-%012x', cast({ms} as integer) >> 16,"
    " cast({ms} as integer) & 65535, ({n}) % 4096, (({n}) >> 48) & 4095,"
    " ({n}) & 281474976710655)",
    meta="{json}",
)

#: Both histories are in the order of their ids, and each id's time is that of its making.
_TIMES = """select n, {start} + n * {step} as created, {start} + n * {step} + 2 as ended
  from {numbers}"""
_BODY = """insert into {s}rota_body
  (id, version, params, options, meta, created_at, due_at, parent, recurring, fire_at)
select {id}, 1, '{{"number": ' || n || ', "note": "an invoice of the usual length"}}', '{{}}',
  case when n % 4 = 0 then {meta} end, {created}, {created},
  case when n % 10 = 1 then {parent} end,
  case when n % 20 = 3 then 'nightly-' || (n % 7) end,
  case when n % 20 = 3 then {created} end
from ({times}) as t"""
_ENDED = """insert into {s}{table} (id, state, queue, work, priority, attempt, node, batch, run_at,
  started_at, finished_at, reason, payload)
select {id}, {state}, {queue}, {work}, 0, 1, 7, n, {created}, {created}, {ended}, {reason},
  {payload}
from ({times}) as t"""
_ATTEMPT = """insert into {s}rota_attempt
  (id, attempt, outcome, node, batch, started_at, finished_at, reason, error)
select {id}, 1, 'retry', 7, n, {created}, {ended}, 'again', {payload} from ({times}) as t"""
_ERROR = (
    """'{{"type": "builtins.' || case n % 3 when 0 then 'ConnectionError' when 1 then"""
    """ 'TimeoutError' else 'ValueError' end || '", "message": "no. ' || n || '", "traceback":"""
    """ "Traceback (most recent call last): in a file of the service, line ' || n || '"}}'"""
)
_TALLY = """insert into {s}rota_tally (minute, queue, work, state, n, seconds)
select {minute}, 'queue-' || (w.n % {queues}), 'work.' || w.n, {state}, {count}, 1.5
from {moments} cross join {works}"""


def fill(place: Place, rows: int) -> None:
    """So many finished tasks with their bodies, attempts and counts, and fresh statistics."""
    if place.kind == "postgresql":
        _make_days(place)
    connection = place.connect()
    try:
        if place.kind == "sqlite":
            connection.execute("pragma synchronous = off")
            connection.execute("pragma cache_size = -200000")
        for statement in statements(place, rows):
            connection.execute(statement)
        if place.kind == "sqlite":
            connection.execute("pragma wal_checkpoint(truncate)")
            return
        for table in ("body", "done", "failed", "attempt", "tally"):
            connection.execute(f"vacuum (analyze) {place.prefix}rota_{table}")
        connection.execute("checkpoint")
    finally:
        connection.close()


def statements(place: Place, rows: int) -> Iterator[str]:
    """Everything to be run, in slices."""
    now = datetime.now(UTC).timestamp()
    dialect = SQLITE if place.kind == "sqlite" else POSTGRES
    failed = rows * FAILED // 100
    # The two histories have numbers of their own, so that no id is in both.
    for table, start, count, days in (
        ("rota_done", 0, rows - failed, DONE_DAYS),
        ("rota_failed", rows, failed, FAILED_DAYS),
    ):
        step = (days * _DAY - 3600) / max(1, count)
        begin = now - days * _DAY - start * step
        for first in range(start, start + count, SLICE):
            times = _TIMES.format(
                start=begin,
                step=step,
                numbers=dialect.numbers.format(first=first, end=min(first + SLICE, start + count)),
            )
            yield from _slice(dialect, place.prefix, table, times)
    yield from _counts(dialect, place.prefix, now, rows)


def _slice(dialect: Dialect, prefix: str, table: str, times: str) -> Iterator[str]:
    created = dialect.instant.format(seconds="created")
    parts = {
        "s": prefix,
        "table": table,
        "times": times,
        "id": dialect.uuid.format(ms="created * 1000", n="n"),
        "created": created,
        "ended": dialect.instant.format(seconds="ended"),
        "meta": dialect.meta.format(json=f"'{{\"tenant\": ' || (n % {TENANTS}) || '}}'"),
        "parent": dialect.uuid.format(ms=1, n=f"n / {FAMILY * 10}"),
        "queue": _named("queue", QUEUES, WORKS),
        "work": _named("work", WORKS, WORKS),
    }
    failed = table == "rota_failed"
    of_failed = {"state": "4", "reason": "'it did not work'", "payload": _ERROR}
    of_done = {
        "state": f"case when n % 100 < {CANCELLED} then 5 else 3 end",
        "reason": "null",
        "payload": "'{{\"sent\": ' || n || '}}'",
    }
    own = {name: text.format() for name, text in (of_failed if failed else of_done).items()}
    yield _BODY.format(**parts)
    yield _ENDED.format(**parts, **own)
    if failed:
        yield _ATTEMPT.format(**parts, **own)


def _named(what: str, of: int, works: int) -> str:
    """One of so many names; a work has its queue, and one of many tasks a rare one."""
    usual = f"'{what}{'.' if what == 'work' else '-'}' || ((n * 7919) % {works} % {of})"
    return f"case when n % {RARE} = 11 then 'rare' else {usual} end"


def _counts(dialect: Dialect, prefix: str, now: float, rows: int) -> Iterator[str]:
    """As tidying leaves them, and one for each task that ended since it was here last."""
    each_second = rows / (DONE_DAYS * _DAY)
    stretches = [Stretch(0, TIDY, WORKS / max(each_second, WORKS / TIDY))]
    ends = [fold.after for fold in FOLDS[1:]] + [KEPT_DAYS * _DAY]
    begins = [TIDY, *ends[:-1]]
    for fold, begin, end in zip(FOLDS, begins, ends, strict=True):
        stretches.append(Stretch(begin, end, fold.width))
    for stretch in stretches:
        count = int((stretch.end - stretch.begin) / stretch.width)
        moments = dialect.numbers.format(first=0, end=max(1, count)).replace("as g", "as m")
        for state in (3, 4):
            yield _TALLY.format(
                s=prefix,
                minute=dialect.instant.format(
                    seconds=f"{now - stretch.begin:.3f} - m.n * {stretch.width:.3f}"
                ),
                queues=QUEUES,
                state=state,
                count=max(1, round(stretch.width * each_second / WORKS)),
                moments=moments,
                works=dialect.numbers.format(first=0, end=WORKS).replace("as g", "as w"),
            )


class Stretch(NamedTuple):
    """From so many seconds ago to so many, with counts of every work each ``width`` seconds."""

    begin: float
    end: float
    width: float


class _Ago(SystemClock):
    """Statements are run as if it were so many days ago."""

    def __init__(self, days: int) -> None:
        self.offset = -timedelta(days=days).total_seconds()


def _make_days(place: Place) -> None:
    """The partitions that nodes would have made day by day."""
    for days in range(FAILED_DAYS + 2, 0, -7):
        repository = open_repository(place.url, clock=_Ago(days), **place.options)
        if isinstance(repository, PostgresRepository):
            repository.upgrade()
        repository.close()
