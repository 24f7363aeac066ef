"""When a recurring task fires next: pure functions of an instant."""

from rota.triggers.apscheduler import from_apscheduler
from rota.triggers.calendar import Calendar
from rota.triggers.combined import AllOf, AnyOf
from rota.triggers.cron import Cron
from rota.triggers.every import Every
from rota.triggers.once import Once
from rota.triggers.trigger import COUNT_LIMIT, Trigger, from_json

__all__ = [
    "COUNT_LIMIT",
    "AllOf",
    "AnyOf",
    "Calendar",
    "Cron",
    "Every",
    "Once",
    "Trigger",
    "from_apscheduler",
    "from_json",
]
