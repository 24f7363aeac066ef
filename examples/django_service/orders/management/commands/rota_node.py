"""``manage.py rota_node``: run the tasks until SIGTERM or Ctrl-C."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from orders.works import own_connections, works
from rota import BackgroundScheduler


class Command(BaseCommand):
    """A node of its own, beside the web processes."""

    help = "Run the service's tasks."

    def handle(self, *_: Any, **__: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        with BackgroundScheduler(
            works, settings.DATABASE_URL, concurrency=8, middleware=[own_connections]
        ):
            self.stdout.write("rota: running")
            self.stdout.flush()
            stop.wait()
        self.stdout.write("rota: stopped")
