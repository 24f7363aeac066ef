"""Write down for the change feed what tasks came to; nothing while it is off."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from rota.core.task import Stored
from rota.storage.verbs.feeding import FEED, ON

_IS_ON = f"select 1 from rota_setting where name = '{FEED}' and value = '{ON}'"
_NOTE = "insert into rota_change (id, state, at) values (?, ?, ?)"


def note(driver: sqlite3.Connection, changes: Iterable[tuple[str, Stored]], now: int) -> None:
    """Write down what each task came to, in the caller's transaction.

    ``changes`` is only gone through while the feed is on, so pass a generator.
    """
    if driver.execute(_IS_ON).fetchone() is not None:
        driver.executemany(_NOTE, [(task_id, int(state), now) for task_id, state in changes])
