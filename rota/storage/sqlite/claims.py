"""The SQLite repository's ``ClaimStore``: the writer is alone, so a claim needs no row locks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection

from rota.core.task import Claimed, Finish, Lane, Stored, Want
from rota.storage.sqlite import agenda, claiming, finishing, rescuing
from rota.storage.sqlite.connections import raw
from rota.storage.sqlite.desk import Desk
from rota.storage.verbs import looking, pausing
from rota.storage.verbs.finishing import finish_joined


class SQLiteClaims:
    """Tasks taken and finished; queues held back."""

    _desk: Desk

    def agenda(self, queues: Sequence[str] | None) -> list[Lane]:
        with self._desk.reading() as conn:
            return agenda.agenda(raw(conn), queues, self._desk.micros())

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
        def act(conn: Connection) -> list[Claimed]:
            now = self._desk.micros()
            return claiming.claim(
                raw(conn),
                node,
                batch,
                wants,
                until=now + round(look_ahead * 1e6),
                now=now,
                lazy=lazy,
                alone=frozenset(alone),
            )

        return self._desk.write(act)

    def claim_until(
        self, owner: int, batch: int, wants: Sequence[Want], lease: float
    ) -> list[Claimed]:
        def act(conn: Connection) -> list[Claimed]:
            now = self._desk.micros()
            deadline = now + round(lease * 1e6)
            return claiming.claim_until(raw(conn), owner, batch, wants, deadline=deadline, now=now)

        return self._desk.write(act)

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
        named = None if queues is None else list(queues)
        asked = claiming.Asked(named, limit, floor, but_not)
        # To look first keeps those who wait from asking for the right to write.
        with self._desk.reading() as conn:
            if not claiming.parked_rows(raw(conn), asked._replace(limit=1), self._desk.micros()):
                return []

        def act(conn: Connection) -> list[Claimed]:
            now = self._desk.micros()
            return claiming.claim_parked_until(
                raw(conn), owner, batch, asked, deadline=now + round(lease * 1e6), now=now
            )

        return self._desk.write(act)

    def extend(self, owner: int, batch: int, lease: float) -> bool:
        desk = self._desk
        return desk.write(
            lambda conn: rescuing.extend(raw(conn), owner, batch, desk.micros(ahead=lease))
        )

    def still_mine(self, node: int, task_ids: Sequence[str]) -> set[str]:
        with self._desk.reading() as conn:
            return looking.still_mine(conn, self._desk.tables, node, task_ids)

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
        def act(conn: Connection) -> list[Claimed]:
            now = self._desk.micros()
            return claiming.claim_parked(
                raw(conn),
                node,
                batch,
                works,
                limit,
                until=now + round(look_ahead * 1e6),
                now=now,
                alone=frozenset(alone),
            )

        return self._desk.write(act)

    def claim_one(self, node: int, batch: int, task_id: str) -> Claimed:
        desk = self._desk
        return desk.write(
            lambda conn: claiming.claim_one(raw(conn), node, batch, task_id, now=desk.micros())
        )

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        if not finishes and not over:
            return []
        desk = self._desk
        return desk.write(
            lambda conn: finishing.finish(
                raw(conn), node, finishes, over, now=desk.micros(), repeated=repeated
            )
        )

    def finish_in(self, connection: object, node: int, finish: Finish) -> None:
        """Raises ``InvalidArgument`` unless ``connection`` is in a transaction on this file."""
        desk = self._desk
        with desk.joined(connection) as conn:
            finish_joined(conn, desk.tables, node, finish, now=desk.moment())

    def strangers(self, works: Sequence[str], limit: int) -> list[tuple[str, str]]:
        with self._desk.reading() as conn:
            return looking.strangers(conn, self._desk.tables, works, limit)

    def pause_queue(self, queue: str, reason: str) -> None:
        desk = self._desk
        desk.write(lambda conn: pausing.pause(conn, desk.tables, queue, reason, now=desk.moment()))

    def resume_queue(self, queue: str) -> bool:
        return self._desk.write(lambda conn: pausing.resume(conn, self._desk.tables, queue))

    def paused_queues(self) -> dict[str, str]:
        with self._desk.reading() as conn:
            return pausing.paused(conn, self._desk.tables)
