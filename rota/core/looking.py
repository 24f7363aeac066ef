"""The protocol of the verbs that look at many tasks, and of those that act on what they find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from rota.core.finding import Count, Failures, Matches, NodeInfo, Page, TaskFilter
from rota.core.task import Lane, Stored, Task


class LookingStore(Protocol):
    """Find tasks wherever they are, count them, and change many at once."""

    def find(
        self, where: TaskFilter, limit: int, after: str | None = None, *, newest_first: bool = True
    ) -> Page:
        """Tasks that fit, by id, those behind ``after``; one snapshot, one bounded look.

        A task that exists from the first page to the last, and fits all the time, is on exactly
        one page, whatever state it goes to meanwhile.
        """

    def matching(self, where: TaskFilter, limit: int, after: str | None = None) -> Matches:
        """The ids alone, newest first."""

    def cancel_many(self, task_ids: Sequence[str], reason: str) -> dict[str, Stored]:
        """``cancel`` for each, one transaction; the states met, of those that exist."""

    def reschedule_many(
        self, task_ids: Sequence[str], changes: Mapping[str, object]
    ) -> dict[str, Lane]:
        """``update`` for each that waits, one transaction; where those wait now."""

    def retry_many(self, task_ids: Sequence[str]) -> dict[str, Lane]:
        """Let failed and cancelled tasks wait again, due now; where they wait.

        Same id, attempt 0, no losses, no unique key, no expiry. The outcome that had ended one
        is kept as an attempt. Others are left as they are.
        """

    def delete_many(self, task_ids: Sequence[str], before: datetime | None = None) -> set[str]:
        """Remove finished tasks with all that is known of them; which. Others stay.

        With ``before`` only those that had ended by then: one that was made to run again since
        it was looked at has another end.
        """

    def counts_by(self, by: str, since: datetime | None) -> dict[str, dict[Stored, Count]]:
        """Counts per ``queue`` or ``work`` and state.

        Waiting ones are looked at up to 10,000 per queue (of parked ones: per work); ended
        ones are those since ``since``, None for all that the counts are kept for.
        """

    def failures(self, since: datetime | None, limit: int) -> list[Failures]:
        """The newest 10,000 failed tasks grouped by work and error, the latest group first."""

    def node_infos(self) -> list[NodeInfo]:
        """All incarnations, living and not yet buried, the oldest first."""

    def running(self, node: int | None, limit: int) -> list[Task]:
        """Working tasks, of this node or pulled claim's owner or of all, by id."""

    def pause_work(self, work: str, reason: str) -> None:
        """Write down that nodes are to park this work's tasks; again replaces the reason."""

    def resume_work(self, work: str) -> bool:
        """Write down that it may run again; False when it was not paused."""

    def paused_works(self) -> dict[str, str]:
        """The paused works and why."""
