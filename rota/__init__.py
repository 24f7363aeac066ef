"""rota: timed work that survives, for long-running Python services.

Register functions under work ids, schedule them for now, later or again and again;
every task is kept in a database, and any node may take over for another.
"""

from rota.app import Scheduler, TaskOptions, TaskSpec
from rota.app.blocking import BlockingHandle, BlockingPulled
from rota.app.blocking_recurring import BlockingRecurring
from rota.app.settings import SchedulerOptions
from rota.background import BackgroundScheduler, Blocking
from rota.control.handle import TaskHandle
from rota.control.health import Health
from rota.control.pulled import Pulled
from rota.control.recurrence import ChildTask, Recurring, RecurringInfo
from rota.core.archiving import ArchivedTask
from rota.core.backoff import Backoff
from rota.core.clock import Clock
from rota.core.context import BlockingContext, Context, Token
from rota.core.finding import TaskFilter
from rota.core.ids import derive_id
from rota.core.outcome import Again, Cancel, Done, Fail, Ignore, Outcome, Release, Retry
from rota.core.recurring import Decision
from rota.core.request import ScheduleRequest, Unique
from rota.core.retention import Keeping, Retention
from rota.core.run import ExternalStateChange, Run
from rota.core.task import Attempt, Change, Report, Task, TaskState
from rota.errors import RotaError, UnreadableResult
from rota.middleware import Middleware
from rota.middleware.timeout import RunTimeout
from rota.registry import Bound, Work, WorkRegistry
from rota.registry.command import CommandResult
from rota.scheduler.processes import ProcessDied
from rota.storage.archiving import ArchiveFile
from rota.storage.sync import RestoreReport
from rota.triggers import AllOf, AnyOf, Calendar, Cron, Every, Once, from_apscheduler

__all__ = [
    "Again",
    "AllOf",
    "AnyOf",
    "ArchiveFile",
    "ArchivedTask",
    "Attempt",
    "BackgroundScheduler",
    "Backoff",
    "Blocking",
    "BlockingContext",
    "BlockingHandle",
    "BlockingPulled",
    "BlockingRecurring",
    "Bound",
    "Calendar",
    "Cancel",
    "Change",
    "ChildTask",
    "Clock",
    "CommandResult",
    "Context",
    "Cron",
    "Decision",
    "Done",
    "Every",
    "ExternalStateChange",
    "Fail",
    "Health",
    "Ignore",
    "Keeping",
    "Middleware",
    "Once",
    "Outcome",
    "ProcessDied",
    "Pulled",
    "Recurring",
    "RecurringInfo",
    "Release",
    "Report",
    "RestoreReport",
    "Retention",
    "Retry",
    "RotaError",
    "Run",
    "RunTimeout",
    "ScheduleRequest",
    "Scheduler",
    "SchedulerOptions",
    "Task",
    "TaskFilter",
    "TaskHandle",
    "TaskOptions",
    "TaskSpec",
    "TaskState",
    "Token",
    "Unique",
    "UnreadableResult",
    "Work",
    "WorkRegistry",
    "derive_id",
    "from_apscheduler",
]
