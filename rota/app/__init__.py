"""The Scheduler: the only place that wires the rooms."""

from rota.app.requests import TaskOptions, TaskSpec
from rota.app.scheduler import Scheduler

__all__ = ["Scheduler", "TaskOptions", "TaskSpec"]
