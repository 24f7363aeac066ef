"""rota: timed work that survives, for long-running Python services.

Register functions under work ids, schedule them for now, later or again and again;
every task is kept in a database, and any node may take over for another.

These are the names of every day. What is typed seldom is in its room: more triggers in
``rota.triggers``, errors in ``rota.errors``, the types of what verbs answer in ``rota.app``,
``rota.control``, ``rota.registry`` and ``rota.core``; the reference gives the place of each.
"""

from rota.app import BlockingHandle, Scheduler, TaskSpec
from rota.background import BackgroundScheduler
from rota.control import TaskHandle
from rota.core.backoff import Backoff
from rota.core.context import BlockingContext, Context
from rota.core.finding import TaskFilter
from rota.core.ids import derive_id
from rota.core.outcome import Again, Cancel, Done, Fail, Ignore, Outcome, Release, Retry
from rota.core.request import ScheduleRequest, Unique
from rota.core.retention import Retention
from rota.core.run import Run
from rota.core.task import Task, TaskState
from rota.errors import RotaError
from rota.middleware import Middleware
from rota.registry import WorkRegistry
from rota.storage.archiving import ArchiveFile
from rota.triggers import Cron, Every, Once

__all__ = [
    "Again",
    "ArchiveFile",
    "BackgroundScheduler",
    "Backoff",
    "BlockingContext",
    "BlockingHandle",
    "Cancel",
    "Context",
    "Cron",
    "Done",
    "Every",
    "Fail",
    "Ignore",
    "Middleware",
    "Once",
    "Outcome",
    "Release",
    "Retention",
    "Retry",
    "RotaError",
    "Run",
    "ScheduleRequest",
    "Scheduler",
    "Task",
    "TaskFilter",
    "TaskHandle",
    "TaskSpec",
    "TaskState",
    "Unique",
    "WorkRegistry",
    "derive_id",
]
