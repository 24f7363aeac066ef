"""Take tasks, and say how that ended: the PostgreSQL repository's ``ClaimStore``."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rota.core.task import Claimed, Finish, Lane, Stored, Want
from rota.storage.postgres.guests import Borrowed
from rota.storage.postgres.parts import Parts
from rota.storage.verbs import finishing, looking, pausing


class PostgresClaims(Parts):
    """Claims, outcomes, and the queues held back from claims."""

    def agenda(self, queues: Sequence[str] | None) -> list[Lane]:
        """The lanes of these queues (None: all) that hold scheduled tasks, and their first."""
        with self._connections.session() as session:
            return self._claiming.agenda(session, queues)

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
        """Take due tasks, lane by lane."""
        with self._connections.session() as session:
            return self._claiming.claim(
                session, node, batch, wants, look_ahead, lazy=lazy, alone=alone
            )

    def claim_until(
        self, owner: int, batch: int, wants: Sequence[Want], lease: float
    ) -> list[Claimed]:
        """Take due tasks for somebody who is no node: the lease ends by itself."""
        with self._connections.session() as session:
            return self._claiming.claim_until(session, owner, batch, wants, lease)

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
        """Take parked tasks of these queues (None: all) for somebody who is no node."""
        with self._connections.session() as session:
            return self._claiming.claim_parked_until(
                session,
                owner,
                batch,
                queues,
                limit=limit,
                lease=lease,
                floor=floor,
                but_not=but_not,
            )

    def extend(self, owner: int, batch: int, lease: float) -> bool:
        """Let a pulled claim's lease end so many seconds from now; False if it is gone."""
        with self._connections.session() as session:
            return self._claiming.extend(session, owner, batch, lease)

    def still_mine(self, node: int, task_ids: Sequence[str]) -> set[str]:
        """Which of these are working under this node now."""
        return self._look(lambda conn: looking.still_mine(conn, self._tables, node, task_ids))

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
        """Take parked tasks of these works."""
        with self._connections.session() as session:
            return self._claiming.claim_parked(
                session, node, batch, works, limit=limit, look_ahead=look_ahead, alone=alone
            )

    def strangers(self, works: Sequence[str], limit: int) -> list[tuple[str, str]]:
        """Parked tasks (id, work) whose work is none of these."""
        return self._look(lambda conn: looking.strangers(conn, self._tables, works, limit))

    def claim_one(self, node: int, batch: int, task_id: str) -> Claimed:
        """Take this very task, due or not."""
        with self._connections.transaction() as session:
            return self._claiming.claim_one(session, node, batch, task_id)

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        """Write outcomes, each fenced by (node, batch), and what follows those accepted."""
        if not finishes and not over:
            return []
        if self._finishing.single(finishes, repeated=repeated):
            with self._connections.session() as session:
                return self._finishing.finish_at_once(session, node, finishes, over)
        with self._connections.transaction() as session:
            return self._finishing.finish(session, node, finishes, over, repeated=repeated)

    def finish_in(self, connection: object, node: int, finish: Finish) -> None:
        """Write one outcome within the caller's transaction; raises ``LeaseLost`` in it."""
        with self._guests.welcomed(connection) as guest:
            if isinstance(guest, Borrowed):
                self._finishing.finish_one(guest, node, finish)
            else:
                finishing.finish_joined(guest, self._tables, node, finish, now=self._now)

    def pause_queue(self, queue: str, reason: str) -> None:
        """Hold the queue's tasks back on every node."""
        self._change(lambda conn: pausing.pause(conn, self._tables, queue, reason, now=self._now))

    def resume_queue(self, queue: str) -> bool:
        """Offer the queue again; False when it was not paused."""
        return self._change(lambda conn: pausing.resume(conn, self._tables, queue))

    def paused_queues(self) -> dict[str, str]:
        """The paused queues and why."""
        return self._look(lambda conn: pausing.paused(conn, self._tables))
