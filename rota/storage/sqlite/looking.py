"""Find, count and change many: the SQLite repository's ``LookingStore``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from rota.core.finding import Count, Failures, Matches, NodeInfo, Page, TaskFilter
from rota.core.task import Lane, Stored, Task
from rota.storage.sqlite.desk import Desk
from rota.storage.verbs import counting, finding, holding, matching


class SQLiteLooking:
    """Looks read; changes are one act of the writer each."""

    _desk: Desk

    def find(
        self, where: TaskFilter, limit: int, after: str | None = None, *, newest_first: bool = True
    ) -> Page:
        with self._desk.reading() as conn:
            return finding.find(
                conn, self._desk.tables, where, limit, after, newest_first=newest_first
            )

    def matching(self, where: TaskFilter, limit: int, after: str | None = None) -> Matches:
        with self._desk.reading() as conn:
            return finding.matching(conn, self._desk.tables, where, limit, after)

    def cancel_many(self, task_ids: Sequence[str], reason: str) -> dict[str, Stored]:
        desk = self._desk
        return desk.write(
            lambda conn: matching.cancel_many(
                conn, desk.tables, task_ids, reason, now=desk.moment()
            )
        )

    def reschedule_many(
        self, task_ids: Sequence[str], changes: Mapping[str, object]
    ) -> dict[str, Lane]:
        desk = self._desk
        return desk.write(
            lambda conn: matching.reschedule_many(
                conn, desk.tables, task_ids, changes, now=desk.moment()
            )
        )

    def retry_many(self, task_ids: Sequence[str]) -> dict[str, Lane]:
        desk = self._desk
        return desk.write(
            lambda conn: matching.retry_many(conn, desk.tables, task_ids, now=desk.moment())
        )

    def delete_many(self, task_ids: Sequence[str], before: datetime | None = None) -> set[str]:
        return self._desk.write(
            lambda conn: matching.delete_many(conn, self._desk.tables, task_ids, before)
        )

    def counts_by(self, by: str, since: datetime | None) -> dict[str, dict[Stored, Count]]:
        with self._desk.reading() as conn:
            return counting.counts_by(conn, self._desk.tables, by, since)

    def failures(self, since: datetime | None, limit: int) -> list[Failures]:
        with self._desk.reading() as conn:
            return counting.failures(conn, self._desk.tables, since, limit)

    def node_infos(self) -> list[NodeInfo]:
        with self._desk.reading() as conn:
            return counting.node_infos(conn, self._desk.tables, self._desk.moment())

    def running(self, node: int | None, limit: int) -> list[Task]:
        with self._desk.reading() as conn:
            return counting.running(conn, self._desk.tables, node, limit)

    def pause_work(self, work: str, reason: str) -> None:
        self._desk.write(lambda conn: holding.pause(conn, self._desk.tables, work, reason))

    def resume_work(self, work: str) -> bool:
        return self._desk.write(lambda conn: holding.resume(conn, self._desk.tables, work))

    def paused_works(self) -> dict[str, str]:
        with self._desk.reading() as conn:
            return holding.paused(conn, self._desk.tables)
