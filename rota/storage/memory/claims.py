"""Taking tasks and handing in their outcomes: the memory repository's ``ClaimStore``."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from heapq import nsmallest

from rota.core.task import Claimed, Finish, Lane, Stored, Want
from rota.errors import AlreadyClaimed, TaskNotFound, WrongState
from rota.storage.memory.book import Book, no_transactions
from rota.storage.memory.ending import finish_one, written_before
from rota.storage.memory.inserting import check_storable, insert_one
from rota.storage.memory.rows import MICROS, Row, span


class MemoryClaims:
    """Lanes, claims and outcomes."""

    _book: Book

    def agenda(self, queues: Sequence[str] | None) -> list[Lane]:
        with self._book.lock:
            return agenda_of(self._book, queues)

    def claim(
        self,
        node: int,
        batch: int,
        wants: Sequence[Want],
        look_ahead: float,
        *,
        lazy: bool = False,
        alone: Sequence[str] = (),
    ) -> list[Claimed]:
        book = self._book
        with book.lock:
            book.require_node(node)
            rows = _offered(book, wants, look_ahead=look_ahead)
            taken = _take_all(book, rows, node=node, batch=batch, alone=alone)
        return [claimed._replace(params="") for claimed in taken] if lazy else taken

    def claim_until(
        self, owner: int, batch: int, wants: Sequence[Want], lease: float
    ) -> list[Claimed]:
        book = self._book
        with book.lock:
            rows = _offered(book, [want._replace(ahead=0) for want in wants], look_ahead=0.0)
            return _take_until(book, rows, owner=owner, batch=batch, lease=lease)

    def claim_parked_until(
        self,
        owner: int,
        batch: int,
        queues: Sequence[str] | None,
        limit: int,
        lease: float,
        *,
        floor: int = -100,
        but_not: Collection[str] = (),
    ) -> list[Claimed]:
        book = self._book
        with book.lock:
            now = book.now()
            offered = (
                row
                for work, rows in book.parked.items()
                if work not in but_not
                for row in rows.values()
                if row.priority >= floor
                and row.run_at <= now
                and (queues is None or row.queue in queues)
                and row.queue not in book.paused
            )
            rows = _lifted(book, offered, limit)
            return _take_until(book, rows, owner=owner, batch=batch, lease=lease)

    def extend(self, owner: int, batch: int, lease: float) -> bool:
        book = self._book
        with book.lock:
            if (owner, batch) not in book.deadlines:
                return False
            book.deadlines[owner, batch] = book.now() + span(lease)
            return True

    def still_mine(self, node: int, task_ids: Sequence[str]) -> set[str]:
        rows = self._book.rows
        with self._book.lock:
            known = [rows[task_id] for task_id in task_ids if task_id in rows]
            return {row.id for row in known if row.state is Stored.WORKING and row.node == node}

    def claim_parked(
        self,
        node: int,
        batch: int,
        works: Sequence[str],
        limit: int,
        look_ahead: float,
        *,
        alone: Sequence[str] = (),
    ) -> list[Claimed]:
        book = self._book
        with book.lock:
            book.require_node(node)
            until = book.now() + span(look_ahead)
            offered = (
                row
                for work in works
                for row in book.parked.get(work, {}).values()
                if row.kept_from != node and row.run_at <= until and row.queue not in book.paused
            )
            rows = _lifted(book, offered, limit)
            return _take_all(book, rows, node=node, batch=batch, alone=alone)

    def strangers(self, works: Sequence[str], limit: int) -> list[tuple[str, str]]:
        book = self._book
        with book.lock:
            found = (
                (row.id, work)
                for work, rows in book.parked.items()
                if work not in works
                for row in rows.values()
            )
            return list(itertools.islice(found, limit))

    def claim_one(self, node: int, batch: int, task_id: str) -> Claimed:
        book = self._book
        with book.lock:
            book.require_node(node)
            row = book.rows.get(task_id)
            if row is None:
                raise TaskNotFound(task_id)
            if row.state is Stored.WORKING:
                raise AlreadyClaimed(task_id)
            if row.final:
                raise WrongState(
                    task_id, str(row.state.public), "schedule a new one to run it again"
                )
            book.lift(row)
            book.take(row, node, batch)
            return row.claimed(book.now(), batch)

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        for finish in finishes:
            if finish.follow is not None:
                check_storable(finish.follow)
        book = self._book
        with book.lock:
            answers = [_write(book, node, finish, repeated=repeated) for finish in finishes]
            for batch in over:
                _drop_if_over(book, node, batch)
        return answers

    def finish_in(self, connection: object, node: int, finish: Finish) -> None:  # noqa: ARG002 - there is nothing it could mean
        """Refused: there is no transaction to join."""
        raise no_transactions()

    def pause_queue(self, queue: str, reason: str) -> None:
        with self._book.lock:
            self._book.paused[queue] = reason

    def resume_queue(self, queue: str) -> bool:
        with self._book.lock:
            return self._book.paused.pop(queue, None) is not None

    def paused_queues(self) -> dict[str, str]:
        with self._book.lock:
            return dict(self._book.paused)


def agenda_of(book: Book, queues: Sequence[str] | None) -> list[Lane]:
    """The lanes with something scheduled; whoever calls holds the lock."""
    now = book.now()
    found = [
        Lane(queue, priority, (first - now) / MICROS)
        for (queue, priority), lane in book.lanes.items()
        if queue not in book.paused
        and (queues is None or queue in queues)
        and (first := lane.first(now)) is not None
    ]
    return sorted(found, key=lambda lane: (-lane.priority, lane.queue))


def _offered(book: Book, wants: Sequence[Want], *, look_ahead: float) -> list[Row]:
    """Take out of their lanes what the wants ask for."""
    now = book.now()
    until = now + span(look_ahead)
    taken: list[str] = []
    for want in wants:
        lane = book.lane(want.queue, want.priority)
        if lane is not None:
            taken += lane.take(
                ready=want.ready, ahead=want.ahead, now=now, until=until, since=want.cursor or 0
            )
            book.close_lane(want.queue, want.priority)
    return [book.rows[task_id] for task_id in taken]


def _lifted(book: Book, parked: Iterable[Row], limit: int) -> list[Row]:
    """The most urgent of these parked tasks, out of their index."""
    rows = nsmallest(limit, parked, key=lambda row: (-row.priority, row.run_at, row.id))
    for row in rows:
        book.lift(row)
    return rows


def _take_until(
    book: Book, rows: Sequence[Row], *, owner: int, batch: int, lease: float
) -> list[Claimed]:
    """Claim what was offered under leases that end by themselves."""
    taken = _take_all(book, rows, node=owner, batch=batch)
    until = book.now() + span(lease)
    book.deadlines.update({(owner, claimed.batch): until for claimed in taken})
    return taken


def _take_all(
    book: Book, rows: Sequence[Row], *, node: int, batch: int, alone: Sequence[str] = ()
) -> list[Claimed]:
    """Claim what was offered: together, but for what must have a lease of its own."""
    now = book.now()
    numbers = itertools.count(batch + 1)
    taken = []
    for row in rows:
        own = next(numbers) if row.losses or row.work in alone else batch
        book.take(row, node, own)
        taken.append(row.claimed(now, own))
    return taken


def _write(book: Book, node: int, finish: Finish, *, repeated: bool) -> Stored | None:
    """Write one outcome, and what follows it unless a cancel has turned it into another."""
    row = book.holder(finish.id, node, finish.batch)
    if row is None:
        return written_before(book, node, finish) if repeated else None
    state = finish_one(book, row, finish)
    turned = state is Stored.CANCELLED and not finish.ending.terminal
    if finish.follow is not None and not turned:
        insert_one(book, finish.follow)
    return state


def _drop_if_over(book: Book, node: int, batch: int) -> None:
    held = book.leases.get(node, {}).get(batch, ())
    if all(book.holder(one, node, batch) is None for one in held):
        book.drop_lease(node, batch)
