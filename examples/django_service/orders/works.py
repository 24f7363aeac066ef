"""What rota runs for this service, and what surrounds each run."""

from __future__ import annotations

from collections.abc import Callable

from django.db import close_old_connections

from orders.models import Order
from rota import Backoff, Outcome, Run, WorkRegistry

works = WorkRegistry()


@works.register("order.confirm", queue="orders", max_attempts=5, backoff=Backoff(first=1))
def confirm(order_id: int) -> str:
    """Confirm an order; run twice it does no more than run once."""
    changed = Order.objects.filter(pk=order_id, confirmed=False).update(confirmed=True)
    return "confirmed" if changed else "was confirmed before"


def own_connections(run: Run, call_next: Callable[[Run], Outcome]) -> Outcome:
    """What Django does around a request: no run meets a connection that has gone stale."""
    close_old_connections()
    try:
        return call_next(run)
    finally:
        close_old_connections()
