"""A second server that follows the first by streaming replication, and can be promoted."""

from __future__ import annotations

import time
from typing import Self

import psycopg

from rota.testing.postgres_server import PostgresServer, _wheel

#: What has not come by then does not come.
PATIENCE = 20.0


class Standby(PostgresServer):
    """A streaming copy of ``primary``; the line to it may have a proxy in between, at ``port``."""

    def __init__(self, primary: PostgresServer, *, through: int) -> None:
        super().__init__(settings={})
        self._primary = primary
        self._through = through

    def start(self) -> None:
        """Copy the primary's data the first time, then follow it."""
        if not self._data.exists():
            self._prepare()
            copy = ["-h", "127.0.0.1", "-p", str(self._through), "-U", "postgres"]
            _wheel().pg_basebackup(
                [*copy, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"],
                pgdata=self._data,
                user=self._user,
            )
        super().start()

    def promote(self) -> None:
        """Make it the primary; returns once it takes writes."""
        self._call("pg_ctl", "-w", "promote")

    def __enter__(self) -> Self:
        self.start()
        return self

    def wait_streaming(self, state: str) -> None:
        """Until the primary says that this standby is ``async`` or ``sync``."""
        until = time.monotonic() + PATIENCE
        with psycopg.connect(self._primary.url, autocommit=True) as admin:
            while time.monotonic() < until:
                row = admin.execute(
                    "select 1 from pg_stat_replication"
                    " where state = 'streaming' and sync_state = %s",
                    (state,),
                ).fetchone()
                if row is not None:
                    return
                admin.execute("select pg_sleep(0.05)")
        raise AssertionError(f"the standby never became {state}")
