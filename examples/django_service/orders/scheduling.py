"""How requests schedule: one client per process, and tasks that belong to the transaction."""

from __future__ import annotations

import atexit
import threading
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from orders.works import works
from rota import BackgroundScheduler, derive_id
from rota.registry import Bound

_guard = threading.Lock()
_clients: list[BackgroundScheduler] = []


def client() -> BackgroundScheduler:
    """This process's client, which runs nothing; made at first use, so after any fork."""
    with _guard:
        if not _clients:
            scheduler = BackgroundScheduler(works, settings.DATABASE_URL, queues=[])
            scheduler.start()
            atexit.register(scheduler.shutdown)
            _clients.append(scheduler)
        return _clients[0]


def schedule_on_commit(bound: Bound[Any], key: str) -> str:
    """Schedule if and only if the present transaction commits; the task's id.

    On PostgreSQL the insert is part of the transaction. On SQLite it comes after the
    commit: a process that dies just between the two leaves the order without its task.
    """
    task_id = derive_id("orders", key)
    if connection.vendor == "postgresql":
        client().schedule(bound, id=task_id, connection=connection.connection)
        transaction.on_commit(client().wake)
    else:
        transaction.on_commit(lambda: client().schedule(bound, id=task_id))
    return task_id
