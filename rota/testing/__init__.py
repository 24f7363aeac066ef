"""What a service's own tests need: a clock that is moved by hand, and the suites rota passes."""

from rota.testing.asserting import assert_scheduled
from rota.testing.clock import FakeClock
from rota.testing.inline import InlineBackgroundScheduler, InlineScheduler
from rota.testing.manual import ManualBackgroundScheduler, ManualScheduler

__all__ = [
    "FakeClock",
    "InlineBackgroundScheduler",
    "InlineScheduler",
    "ManualBackgroundScheduler",
    "ManualScheduler",
    "assert_scheduled",
]
