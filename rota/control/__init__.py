"""The verbs on what exists; CLI, HTTP and pages are faces of it."""

from rota.control.handle import TaskHandle
from rota.control.health import Health
from rota.control.pulled import Pulled
from rota.control.recurrence import ChildTask, Recurring, RecurringInfo

__all__ = ["ChildTask", "Health", "Pulled", "Recurring", "RecurringInfo", "TaskHandle"]
