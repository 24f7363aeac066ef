"""The protocols between the rooms; neighbours meet only here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from rota.core.audit_store import AuditStore
from rota.core.glance import Glance
from rota.core.keeping_store import KeepingStore
from rota.core.looking import LookingStore
from rota.core.recurring_store import RecurringStore
from rota.core.task import (
    Along,
    Attempt,
    CancelNotice,
    Change,
    Claimed,
    Finish,
    Inserted,
    Lane,
    Membership,
    NewTask,
    NodeView,
    Report,
    Rescued,
    Stored,
    Task,
    Want,
)


class Signals(Protocol):
    """How nodes wake each other; used by one thread (``wait``) and told by any (the rest)."""

    @property
    def hears(self) -> bool:
        """Whether it can hear others at present; who must know has to look more often if not."""

    def announce(
        self, *, lanes: Sequence[Lane] = (), tasks: Sequence[str] = (), everything: bool = False
    ) -> None:
        """Tell the other nodes, soon and coalesced.

        ``lanes`` got work; ``tasks`` are ids of tasks and recurring tasks that changed.
        ``everything`` asks them to look at the database themselves.
        """

    def wait(self, timeout: float) -> Wakeup | None:
        """Block until another node says something, ``interrupt`` or the timeout (None)."""

    def interrupt(self) -> None:
        """End a wait from another thread."""

    def close(self) -> None: ...


class Wakeup(Protocol):
    """What was heard; ``everything`` when the sender could not say which lanes."""

    @property
    def lanes(self) -> Sequence[Lane]: ...

    @property
    def tasks(self) -> Sequence[str]: ...

    @property
    def everything(self) -> bool: ...


class TaskStore(Protocol):
    """Put tasks in, look at them, change them while they wait."""

    def insert(
        self,
        tasks: Sequence[NewTask],
        *,
        repeated: bool = False,
        together: bool = False,
        along: Along | None = None,
    ) -> list[Inserted]:
        """Write the tasks, all or none; one answer each, in order.

        A task whose unique key or id is taken is not written; its answer names the
        one that exists. ``repeated`` says that an earlier try may have committed:
        ids are then looked for in history, too. With ``together`` a task that was not to meet
        another (``on_conflict="raise"``) and does raises ``DuplicateTask``. Raises ``LeaseLost``
        when a task's ``fence`` is no longer its parent's token. Either with nothing written.

        Those ``along`` names are created working, under one lease of its token; the answer has
        what a claim would have. Waiting as ever, and with nothing claimed: all of a node that is
        not entered any more, at least those of a paused queue, and all when one of the tasks
        is ``keyed``, met another, or the call is ``repeated``.
        """

    def insert_parts(self, parts: Iterable[Sequence[NewTask]]) -> list[Inserted]:
        """``insert`` with ``together``, of tasks that come in parts, all or none.

        A transaction may be open while the next one is made. What that raises is raised.
        """

    def insert_in(
        self, connection: object, tasks: Sequence[NewTask], *, together: bool = False
    ) -> list[Inserted]:
        """The same inside the caller's transaction, which may still be rolled back.

        ``connection`` is a SQLAlchemy ``Connection`` of any driver, or psycopg's own. With
        ``together`` a task that was not to meet another and does raises ``DuplicateTask``.
        Whatever is raised then, none of the tasks is in the transaction, which goes on with what
        its owner wrote before; without it a refused value fails a transaction of PostgreSQL's.
        """

    def get(self, task_id: str) -> Task | None:
        """The task, waiting, working or in history."""

    def states(self, task_ids: Sequence[str]) -> dict[str, Stored]:
        """The stored state of each that exists."""

    def attempts(self, task_id: str) -> list[Attempt]:
        """The attempts that ended, oldest first."""

    def find_key(self, unique: str) -> str | None:
        """The unfinished task with this unique key, or period key while the period lasts."""

    def cancel(self, task_id: str, reason: str, *, tombstone: bool = False) -> Stored | None:
        """Cancel what waits, ask what works; the state it met, None if there is no such task.

        With ``tombstone`` an unknown id is written down as a cancelled task (answer:
        ``CANCELLED``), so that a later insert with this id meets it.

        ``SCHEDULED`` or ``PARKED``: it is cancelled now. ``WORKING``: the cancel reason
        stands in its row. A final state: nothing was changed.
        """

    def update(
        self, task_id: str, changes: Mapping[str, object], expected_version: int | None
    ) -> Task:
        """Change a waiting task: ``at``, ``delay``, ``priority``, ``queue``, ``params``.

        ``params`` is JSON text. What is parked stays parked. The version grows by one.

        Raises ``TaskNotFound``, ``WrongState``, ``StaleVersion``.
        """

    def report(self, node: int, task_id: str, batch: int, n: int, data: str) -> bool:
        """Keep a running attempt's progress; False for a report older than the one kept.

        ``n`` grows within the attempt. A report sets ``losses`` above 1 back to 1. Raises
        ``LeaseLost`` when the token is not the task's any more.
        """

    def reported(self, task_id: str) -> Report | None:
        """The newest report, also of a finished task."""

    def children(
        self, parent: str, limit: int, after: str | None = None
    ) -> list[tuple[str, str, Stored]]:
        """A task's children as (id, work, state), by id, those after ``after``."""

    def count_children(self, parent: str) -> dict[Stored, int]:
        """How many children a task has in each state."""

    def bodies(self, task_ids: Sequence[str]) -> dict[str, str]:
        """The params of these tasks as JSON text."""

    def feed(self, *, on: bool) -> None:
        """Turn the change feed on or off; off, it writes nothing and keeps what it has."""

    def updated_since(self, cursor: str | None, limit: int) -> tuple[list[Change], str]:
        """Changes after the cursor, oldest first, and the cursor to go on from.

        None begins at the oldest kept. No row is skipped and none is repeated, whenever
        its transaction committed: created, waiting again, ended; claims are not told.
        """

    def counts(self) -> dict[str, int]:
        """Unfinished tasks by status: scheduled, working, parked."""


class ClaimStore(Protocol):
    """Take tasks to run them, and say how that ended."""

    def agenda(self, queues: Sequence[str] | None) -> list[Lane]:
        """The lanes of these queues (None: all) that hold scheduled tasks, and their first.

        Paused queues and parked tasks are left out.
        """

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
        """Take due tasks: up to ``ready`` per lane, then up to ``ahead`` due within look-ahead.

        Tasks that were lost before, and tasks of the works in ``alone``, get a lease of
        their own, numbered above ``batch``; reserve ``batch + ready + ahead`` numbers.
        ``lazy`` leaves the params out (empty text), to be read by ``bodies`` later. Raises
        ``NodeDead`` when the node's row is gone.
        """

    def claim_until(
        self, owner: int, batch: int, wants: Sequence[Want], lease: float
    ) -> list[Claimed]:
        """Take due tasks for somebody who is no node: the lease ends by itself.

        ``owner`` is a random number of its own, made for this claim; the token is (owner,
        batch) as ever, and ``finish``, ``report`` and ``drop_lease`` take it. After
        ``lease`` seconds without ``extend`` any node's ``rescue`` takes the tasks back; until
        somebody has, ``finish`` still counts. Tasks that were lost before get a lease of their
        own, numbered above ``batch``; reserve ``batch + ready`` numbers. Parked tasks are
        ``claim_parked_until``'s.
        """

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
        """As ``claim_until``, of what is parked and due in these queues (None: all).

        Of whatever work, since who pulls knows none, but those ``but_not`` names; of priority
        ``floor`` or higher, the highest first. What a node has just ignored is not due for
        a moment. Cheap when nothing is parked; reserve ``batch + limit`` numbers.
        """

    def extend(self, owner: int, batch: int, lease: float) -> bool:
        """Let a pulled claim's lease end so many seconds from now; False if it is gone."""

    def still_mine(self, node: int, task_ids: Sequence[str]) -> set[str]:
        """Which of these are working under this node now."""

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
        """Take parked tasks of works this node knows, but not those it ignored itself.

        ``alone`` as in ``claim``; reserve ``batch + limit`` numbers.
        """

    def strangers(self, works: Sequence[str], limit: int) -> list[tuple[str, str]]:
        """Parked tasks (id, work) whose work is none of these."""

    def claim_one(self, node: int, batch: int, task_id: str) -> Claimed:
        """Take this very task, due or not.

        Raises ``TaskNotFound``, ``AlreadyClaimed``, ``WrongState``, ``NodeDead``.
        """

    def finish(
        self,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int] = (),
        *,
        repeated: bool = False,
    ) -> list[Stored | None]:
        """Write outcomes, each fenced by (node, batch); in order: the state it led to.

        None: refused, the token was not the task's any more. What an accepted outcome has
        as ``follow`` is inserted along with it. ``over`` are batches with
        nothing left to run, whose leases go in the same transaction. ``repeated`` says
        an earlier try may have committed: a refused outcome that history shows as this
        very attempt's counts as accepted.
        """

    def finish_in(self, connection: object, node: int, finish: Finish) -> None:
        """Write one outcome inside the caller's transaction; raises ``LeaseLost`` in it."""

    def pause_queue(self, queue: str, reason: str) -> None:
        """Hold the queue back from ``claim``, ``claim_parked`` and ``agenda``, on every node.

        Tasks may still be put in, changed, expired, and taken by ``claim_one``. Pausing
        again replaces the reason.
        """

    def resume_queue(self, queue: str) -> bool:
        """Offer the queue's tasks again; False when it was not paused."""

    def paused_queues(self) -> dict[str, str]:
        """The paused queues and why."""


class NodeStore(Protocol):
    """Nodes, their leases, and what is done about the dead."""

    def join(self, node: Membership) -> None:
        """Enter this incarnation."""

    def beat(self, node: int, lease: float) -> bool:
        """Extend the lease; False when the row is gone: this incarnation is dead.

        Raises ``SchemaMismatch``, the lease extended all the same, when the schema was changed
        so that this code cannot work with it any more: the node drains and stops.
        """

    def cut_off(self) -> bool:
        """Whether the database has ended the calling thread's session; asks nobody for it."""

    def leave(self, node: int) -> None:
        """Remove the incarnation; tasks it still holds become claimable like a dead node's."""

    def nodes(self) -> list[NodeView]:
        """All incarnations, living and not yet buried."""

    def glance(self, node: int, queues: Sequence[str] | None) -> Glance:
        """Whether there is anything to do, for this node or for all; writes nothing.

        In one look that stays cheap however often it is repeated and however much is stored:
        an idle node does nothing else. Its lanes are ``agenda``'s of these queues (None: all).
        """

    def bury(self, node: int, *, trusted: bool) -> list[int]:
        """Remove nodes that are dead; returns them.

        Dead: the process is provably gone, or the lease is over and ``trusted`` (the
        asking node's own heartbeats were on time, and the database has been up for a lease).
        """

    def rescue(self, limit: int) -> list[Rescued]:
        """Make claimable what leases without a node hold, at most ``limit`` leases.

        A task with a cancel reason is cancelled, one lost too often fails and what it asks
        for ``on_failed`` is inserted along with that. Either has an attempt ``lost`` and is
        nobody's outcome: no repeated finish is taken for it. Answers each task it touched.
        """

    def held(self, node: int) -> list[tuple[int, list[str]]]:
        """The node's leases: (batch, ids)."""

    def drop_lease(self, node: int, batch: int) -> int:
        """Release what is left in one of the node's own leases; how many tasks that were.

        What had been asked to stop is cancelled, as ``rescue`` does it.
        """

    def cancels(self, node: int) -> list[CancelNotice]:
        """Running tasks of this node that somebody asked to stop."""

    def expire(self, limit: int) -> list[str]:
        """Cancel waiting tasks past ``expires_at``."""

    def take_chore(self, name: str, every: float) -> bool:
        """Whether this caller does the named chore now; at most one in ``every`` seconds."""


@runtime_checkable
class Repository(
    TaskStore,
    ClaimStore,
    NodeStore,
    RecurringStore,
    LookingStore,
    KeepingStore,
    AuditStore,
    Protocol,
):
    """Where tasks are mirrored. Synchronous, batch-first, called from rota's own threads."""

    @property
    def durable(self) -> bool:
        """Whether anything survives the process."""

    @property
    def embedded(self) -> bool:
        """Whether its statements run in this process, and wait for its interpreter between two."""

    def open(self) -> None:
        """Connect and check the schema. Raises a ``StorageError`` that says what to do."""

    def close(self) -> None:
        """Give back every connection; safe to call twice."""

    def signals(self, node: int) -> Signals:
        """This node's way to wake and be woken."""

    def now(self) -> datetime:
        """The database's clock."""

    def abort_overdue(self) -> int:
        """Close connections whose statement is past its deadline; called by another thread."""
