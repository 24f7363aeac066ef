"""rota: timed work that survives, for long-running Python services.

Register functions under work ids, schedule them for now, later or again and again;
every task is kept in a database, and any node may take over for another.
"""

from rota.app import Scheduler, TaskOptions, TaskSpec
from rota.background import BackgroundScheduler
from rota.control.handle import TaskHandle
from rota.core.backoff import Backoff
from rota.core.clock import Clock
from rota.core.context import BlockingContext, Context, Token
from rota.core.ids import derive_id
from rota.core.outcome import Again, Cancel, Done, Fail, Ignore, Outcome, Release, Retry
from rota.core.request import ScheduleRequest, Unique
from rota.core.run import Run
from rota.core.task import Attempt, Task, TaskState
from rota.errors import RotaError
from rota.middleware import Middleware
from rota.registry import Work, WorkRegistry
from rota.triggers import Every

__all__ = [
    "Again",
    "Attempt",
    "BackgroundScheduler",
    "Backoff",
    "BlockingContext",
    "Cancel",
    "Clock",
    "Context",
    "Done",
    "Every",
    "Fail",
    "Ignore",
    "Middleware",
    "Outcome",
    "Release",
    "Retry",
    "RotaError",
    "Run",
    "ScheduleRequest",
    "Scheduler",
    "Task",
    "TaskHandle",
    "TaskOptions",
    "TaskSpec",
    "TaskState",
    "Token",
    "Unique",
    "Work",
    "WorkRegistry",
    "derive_id",
]
