"""What a service's own tests need: a clock that is moved by hand, and the suites rota passes."""

from rota.testing.clock import FakeClock

__all__ = ["FakeClock"]
