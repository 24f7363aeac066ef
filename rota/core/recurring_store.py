"""The repository's protocol for recurring tasks: their definitions and the ticks of these."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from rota.core.recurring import Child, Decision, Definition, Fire, Fired, Put
from rota.core.task import NewTask


class RecurringStore(Protocol):
    """Definitions, what is due of them, and what was decided at their fire times."""

    def put_recurring(self, definition: Definition, *, replace: bool = True) -> Put:
        """Insert, or change if the content differs; of two that insert at once one changes.

        Content is work, params, trigger, options, rules, queue, priority and meta. The
        rest is the row's own: a new one is not paused, has version 1, no runs, and
        ``due_at`` is its ``next_fire_at``. ``SAME``: nothing is written, so that stating a
        definition at every start neither moves its rhythm nor unpauses it. ``OLDER``: the
        stored rules state a higher version, nothing is written. ``CHANGED``: the version
        grows by one; ``next_fire_at`` and ``due_at`` are the given one's only if the
        trigger, or start, end or max_runs of the rules differ, so an ended one comes to
        life by such a change only. Without ``replace`` an existing id answers ``EXISTS``.
        """

    def get_recurring(self, recurring_id: str) -> Definition | None:
        """The definition; ``due_at`` is None once it has ended."""

    def list_recurring(self, limit: int = 1000, after: str | None = None) -> list[Definition]:
        """Definitions by id, those after ``after``."""

    def remove_recurring(self, recurring_id: str) -> bool:
        """Forget the definition; its children go on, its decisions stay. False: unknown id."""

    def pause_recurring(self, recurring_id: str) -> bool | None:
        """Let no tick be decided until it is resumed; False: it was paused, None: unknown id."""

    def resume_recurring(
        self,
        recurring_id: str,
        expected: datetime | None,
        following: datetime | None,
        missed: Fire | None = None,
    ) -> bool:
        """Unpause and go on with ``following``; ``missed`` is recorded as its decision says.

        False, with nothing written: it is not paused, ``next_fire_at`` is not ``expected``
        any more, or the version is not the one ``missed`` names.
        """

    def due_recurring(
        self, within: float, limit: int, *, but: Sequence[str] = ()
    ) -> tuple[list[Definition], float | None]:
        """Definitions due within so many seconds, and in how many the next after them is.

        Soonest first, by ``due_at``. Those in ``but`` are passed over, in both answers.
        """

    def fire(self, fires: Sequence[tuple[Fire, NewTask | None]]) -> list[Fired]:
        """Decide ticks in order and in one transaction: CAS, overlap, child, decision.

        *CAS*: ``next_fire_at``, ``version`` and not paused; lost, or the definition is
        being decided by another node at this moment: ``Fired(None)``. Several ticks of one
        definition may follow each other, each expecting what the one before led to.

        *Overlap*, for ticks with a child: at ``max_instances`` unfinished children
        ``skip`` records ``skipped`` and moves on; ``queue`` answers ``waiting``, records
        nothing, keeps ``next_fire_at`` and looks again in 5 s or on ``look_again``.

        *Child*: inserted as by ``insert``. If it meets an existing task, the decision
        names that one and ``created`` is False. If its key is held up by somebody's
        open transaction, the tick is not decided: ``Fired(None)``. ``runs`` counts the
        children created; at ``max_runs`` the recurrence ends.

        By hand (``expected`` None): only the definition must exist, paused or ended as it
        may be; ``next_fire_at`` and ``runs`` stay; the child counts as unfinished. It waits
        for a node that is deciding the definition; ``StorageUnavailable`` if its child's key
        is held up.

        After a lost reply a repeated call meets its own CAS and answers ``Fired(None)``:
        whether it was decided, and with which task, stands in ``decisions``. Raises
        ``DataRefused``, with nothing written, if the database refuses one of the children.
        """

    def look_again(self, recurring_ids: Sequence[str]) -> None:
        """Children of these have ended: a definition that waits for that is due now."""

    def outstanding(self, recurring_id: str, limit: int = 10_000) -> int:
        """How many children have not ended, counted up to ``limit``."""

    def children_of(
        self, recurring_id: str, limit: int, before: datetime | None = None
    ) -> list[Child]:
        """Children, newest fire time first, those of fire times before ``before``.

        As far as they are kept: with the history of tasks that ended.
        """

    def decisions(
        self, recurring_id: str, limit: int, before: datetime | None = None
    ) -> list[Decision]:
        """What was decided per fire time, newest first, for those before ``before``.

        Also of a definition that was removed, for 30 days.
        """
