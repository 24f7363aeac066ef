"""The Scheduler: the only place that wires the rooms."""

from rota.app.blocking import BlockingHandle, BlockingPulled
from rota.app.blocking_recurring import BlockingChildTask, BlockingRecurring
from rota.app.requests import TaskOptions, TaskSpec
from rota.app.scheduler import Scheduler
from rota.app.settings import SchedulerOptions

__all__ = [
    "BlockingChildTask",
    "BlockingHandle",
    "BlockingPulled",
    "BlockingRecurring",
    "Scheduler",
    "SchedulerOptions",
    "TaskOptions",
    "TaskSpec",
]
