"""Every error rota raises, in one tree.

::

    RotaError
    ├── InvalidArgument (ValueError)      an argument that cannot be right; ``field`` names it
    │   ├── InvalidName                   a queue, work id or key outside its alphabet
    │   ├── InvalidParams                 params that do not fit the function, or are not JSON
    │   ├── PayloadTooLarge               params, meta or result over the size limit
    │   ├── InvalidTrigger                a trigger that cannot fire, or is written wrongly
    │   └── UnsupportedUrl                a database URL rota cannot open
    ├── NotFound (LookupError)
    │   ├── TaskNotFound
    │   ├── UnknownWork
    │   └── RecurringNotFound
    ├── WrongState                        the task is in a state the verb does not act on
    │   └── AlreadyClaimed                another node, or another attempt, has it
    ├── LeaseLost                         the attempt's token is no longer the task's
    ├── StaleVersion                      somebody changed it first
    ├── DuplicateTask                     the id or unique key exists
    ├── Rejected                          a middleware refused the request
    ├── MiddlewareOrderError
    ├── StorageError
    │   ├── StorageUnavailable            cannot be reached, or did not answer in time
    │   ├── MissingDriver
    │   ├── ReadOnlyDatabase
    │   ├── DataRefused                   the database refused this one row for its data
    │   ├── DamagedTask                   what is stored of this one task cannot be read
    │   └── SchemaMismatch
    │       ├── SchemaTooOld              an upgrade is due
    │       └── SchemaTooNew              this code is too old for the database
    ├── NodeDead                          this incarnation was declared dead by another node
    ├── SchedulerNotRunning
    ├── ForkedScheduler
    ├── WrongThread                       a blocking verb on the event loop's own thread
    ├── ResultTimeout (TimeoutError)
    ├── TaskFailed                        waiting for a result: the task failed
    ├── TaskCancelled                     waiting for a result: the task was cancelled
    └── UnreadableResult                  waiting for a result: it does not fit the annotation

Messages read *fact; remedy*. ``code`` is stable and is what HTTP and the CLI show.

Beside the tree stands what an attempt can end in, by name in its ``reason`` and ``error``:
``RunTimeout``, ``ProcessDied``, ``ExternalStateChange``. They are never raised at a caller.
"""

from __future__ import annotations

import signal
from typing import ClassVar


class RotaError(Exception):
    """Root of all errors rota raises itself."""

    code: ClassVar[str] = "error"


class InvalidArgument(RotaError, ValueError):
    """An argument cannot be right, whatever the state of the database.

    ``field`` is the argument's name as the caller wrote it.
    """

    code = "invalid_argument"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class InvalidName(InvalidArgument):
    """A queue, work id or key is outside its alphabet or too long."""

    code = "invalid_name"


class InvalidParams(InvalidArgument):
    """Params do not fit the function, or cannot be written as JSON."""

    code = "invalid_params"


class PayloadTooLarge(InvalidArgument):
    """Params, meta or a result exceed the size limit; ``size`` and ``limit`` are bytes."""

    code = "payload_too_large"

    def __init__(self, message: str, *, field: str, size: int, limit: int) -> None:
        super().__init__(message, field=field)
        self.size = size
        self.limit = limit


class InvalidTrigger(InvalidArgument):
    """A trigger is written wrongly, or can never fire."""

    code = "invalid_trigger"


class UnsupportedUrl(InvalidArgument):
    """A database URL whose scheme or shape rota does not know."""

    code = "unsupported_url"


class NotFound(RotaError, LookupError):
    """What was asked for does not exist (any more)."""

    code = "not_found"


class TaskNotFound(NotFound):
    """No task with this id is waiting, working or in history."""

    code = "task_not_found"

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"task {task_id} does not exist; its history may have passed its retention"
        )
        self.task_id = task_id


class UnknownWork(NotFound):
    """No function is registered under this work id."""

    code = "unknown_work"

    def __init__(self, work: str, known: tuple[str, ...] = ()) -> None:
        hint = f"; known are {', '.join(known[:8])}" if known else "; nothing is registered"
        super().__init__(
            f"work {work!r} is not registered here{hint}; register it, "
            "or schedule with allow_unknown=True for other nodes to run"
        )
        self.work = work


class RecurringNotFound(NotFound):
    """No recurring task has this id."""

    code = "recurring_not_found"

    def __init__(self, recurring_id: str) -> None:
        super().__init__(f"recurring task {recurring_id!r} does not exist; add it first")
        self.recurring_id = recurring_id


class WrongState(RotaError):
    """The task is in a state the verb does not act on."""

    code = "wrong_state"

    def __init__(self, task_id: str, state: str, remedy: str) -> None:
        super().__init__(f"task {task_id} is {state}; {remedy}")
        self.task_id = task_id
        self.state = state


class AlreadyClaimed(WrongState):
    """Another attempt holds the task."""

    code = "already_claimed"

    def __init__(self, task_id: str, state: str = "working") -> None:
        super().__init__(task_id, state, "only one attempt at a time may run it")


class LeaseLost(RotaError):
    """The attempt's token is not the task's any more; nothing was changed."""

    code = "lease_lost"

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"the lease on task {task_id} was lost; another attempt may be running, stop this one"
        )
        self.task_id = task_id


class StaleVersion(RotaError):
    """The expected version is not the stored one."""

    code = "stale_version"

    def __init__(self, subject: str, expected: int, found: int) -> None:
        super().__init__(
            f"{subject} is at version {found}, not {expected}; read it again and decide anew"
        )
        self.expected = expected
        self.found = found


class DuplicateTask(RotaError):
    """A task with this id or unique key exists; ``task_id`` is the one that does."""

    code = "duplicate_task"

    def __init__(self, task_id: str, state: str, *, key: str | None = None) -> None:
        what = f"unique key {key!r} is taken by task {task_id}" if key else f"task {task_id} exists"
        super().__init__(f"{what} ({state}); pass on_conflict='return' to get its handle")
        self.task_id = task_id
        self.state = state
        self.key = key


class Rejected(RotaError):
    """A middleware refused the request on the schedule side; nothing was stored."""

    code = "rejected"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MiddlewareOrderError(RotaError):
    """The chain's order would break a promise; refused at start."""

    code = "middleware_order"


class StorageError(RotaError):
    """The database, or the way to it, is the trouble."""

    code = "storage"


class StorageUnavailable(StorageError):
    """The database cannot be reached or did not answer in time; trying again may help."""

    code = "storage_unavailable"


class MissingDriver(StorageError):
    """The database's Python driver is not installed."""

    code = "missing_driver"


class ReadOnlyDatabase(StorageError):
    """The database can be read but not written."""

    code = "read_only_database"


class DataRefused(StorageError):
    """The database refused one row for its data; its neighbours were written."""

    code = "data_refused"


class DamagedTask(StorageError):
    """What is stored of this one task cannot be read; its neighbours can."""

    code = "damaged_task"

    def __init__(self, task_id: str, reason: str) -> None:
        super().__init__(
            f"task {task_id} is damaged: {reason}; mend its row, or delete it: "
            f"rota tasks delete {task_id}"
        )
        self.task_id = task_id


class SchemaMismatch(StorageError):
    """The database's schema and this code do not fit."""

    code = "schema_mismatch"

    def __init__(self, message: str, *, found: int, needed: int) -> None:
        super().__init__(message)
        self.found = found
        self.needed = needed


class SchemaTooOld(SchemaMismatch):
    """The database's schema is older than this code needs."""

    code = "schema_too_old"


class SchemaTooNew(SchemaMismatch):
    """The database's schema no longer works with code this old."""

    code = "schema_too_new"


class NodeDead(RotaError):
    """This incarnation's row is gone: other nodes have taken over its tasks."""

    code = "node_dead"


class SchedulerNotRunning(RotaError):
    """The scheduler was not started, or is shut down."""

    code = "not_running"


class ForkedScheduler(RotaError):
    """The scheduler belongs to the process that started it, and this is a child of that one."""

    code = "forked"

    def __init__(self) -> None:
        super().__init__(
            "this scheduler was started before a fork; start a scheduler in each process, "
            "after the fork (gunicorn: in post_fork, or without --preload)"
        )


class WrongThread(RotaError):
    """A blocking verb was called on the event loop's own thread, which it would block for ever."""

    code = "wrong_thread"


class ResultTimeout(RotaError, TimeoutError):
    """The task did not end within the time the caller would wait; it goes on."""

    code = "result_timeout"


class TaskFailed(RotaError):
    """The awaited task failed; ``reason`` and ``error`` are what was stored."""

    code = "task_failed"

    def __init__(self, task_id: str, reason: str, error: dict[str, object] | None = None) -> None:
        super().__init__(f"task {task_id} failed: {reason}")
        self.task_id = task_id
        self.reason = reason
        self.error = error


class TaskCancelled(RotaError):
    """The awaited task was cancelled."""

    code = "task_cancelled"

    def __init__(self, task_id: str, reason: str) -> None:
        super().__init__(f"task {task_id} was cancelled: {reason}")
        self.task_id = task_id
        self.reason = reason


class UnreadableResult(RotaError):
    """The task is done, but what is stored does not fit what its work returns here.

    Another version of the function wrote it. ``field`` is the way to the misfit, from
    ``result`` on; ``value`` is the stored JSON.
    """

    code = "unreadable_result"

    def __init__(self, task_id: str, work: str, value: object, misfit: InvalidParams) -> None:
        super().__init__(
            f"task {task_id} is done, but its stored result does not fit what {work!r} is "
            f"annotated to return here ({misfit}); read the JSON by info().result, or let the "
            "annotation admit both"
        )
        self.task_id = task_id
        self.work = work
        self.field: str = misfit.field
        self.value = value


class RunTimeout(TimeoutError):
    """The run took longer than its ``timeout``."""


class ProcessDied(RuntimeError):
    """The process of a run ended without an answer; ``status`` is minus the signal's number."""

    def __init__(self, status: int, how: str) -> None:
        remedy = "see what it wrote to stderr"
        if status == -signal.SIGKILL:
            remedy = "somebody killed it, or the machine ran out of memory"
        super().__init__(f"the process of this run ended: {how}; {remedy}")
        self.status = status


class ExternalStateChange(Exception):
    """Noted on a run that was stopped because its task's row changed under it, to ``state``."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state
