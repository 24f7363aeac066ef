"""Find, count and change many: the PostgreSQL repository's ``LookingStore``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from rota.core.finding import Count, Failures, Matches, NodeInfo, Page, TaskFilter
from rota.core.task import Lane, Stored, Task
from rota.storage.postgres.parts import Parts
from rota.storage.verbs import counting, finding, holding, matching


class PostgresLooking(Parts):
    """Looks take one statement each; changes are one transaction."""

    def find(
        self, where: TaskFilter, limit: int, after: str | None = None, *, newest_first: bool = True
    ) -> Page:
        """Tasks that fit, those behind ``after``."""
        return self._look(
            lambda conn: finding.find(
                conn, self._tables, where, limit, after, newest_first=newest_first
            )
        )

    def matching(self, where: TaskFilter, limit: int, after: str | None = None) -> Matches:
        """The ids alone, newest first."""
        return self._look(lambda conn: finding.matching(conn, self._tables, where, limit, after))

    def cancel_many(self, task_ids: Sequence[str], reason: str) -> dict[str, Stored]:
        """Cancel what waits, ask what works; the states met."""
        return self._change(
            lambda conn: matching.cancel_many(conn, self._tables, task_ids, reason, now=self._now)
        )

    def reschedule_many(
        self, task_ids: Sequence[str], changes: Mapping[str, object]
    ) -> dict[str, Lane]:
        """Change those that wait."""
        return self._change(
            lambda conn: matching.reschedule_many(
                conn, self._tables, task_ids, changes, now=self._now
            )
        )

    def retry_many(self, task_ids: Sequence[str]) -> dict[str, Lane]:
        """Let failed and cancelled tasks wait again."""
        return self._change(
            lambda conn: matching.retry_many(conn, self._tables, task_ids, now=self._now)
        )

    def delete_many(self, task_ids: Sequence[str], before: datetime | None = None) -> set[str]:
        """Remove finished tasks, of those that had ended before; which."""
        return self._change(lambda conn: matching.delete_many(conn, self._tables, task_ids, before))

    def counts_by(self, by: str, since: datetime | None) -> dict[str, dict[Stored, Count]]:
        """Counts per ``queue`` or ``work`` and state."""
        return self._look(lambda conn: counting.counts_by(conn, self._tables, by, since))

    def failures(self, since: datetime | None, limit: int) -> list[Failures]:
        """The newest failed tasks by work and error."""
        return self._look(lambda conn: counting.failures(conn, self._tables, since, limit))

    def node_infos(self) -> list[NodeInfo]:
        """All incarnations, living and not yet buried."""
        return self._look(lambda conn: counting.node_infos(conn, self._tables, self._now))

    def running(self, node: int | None, limit: int) -> list[Task]:
        """Working tasks by id."""
        return self._look(lambda conn: counting.running(conn, self._tables, node, limit))

    def pause_work(self, work: str, reason: str) -> None:
        """Have nodes park this work's tasks."""
        self._change(lambda conn: holding.pause(conn, self._tables, work, reason))

    def resume_work(self, work: str) -> bool:
        """Let it run again; False when it was not paused."""
        return self._change(lambda conn: holding.resume(conn, self._tables, work))

    def paused_works(self) -> dict[str, str]:
        """The paused works and why."""
        return self._look(lambda conn: holding.paused(conn, self._tables))
