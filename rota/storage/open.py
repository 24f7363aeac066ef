"""Open the repository a URL names; drivers are imported only when one is."""

from __future__ import annotations

from typing import Any

from rota.core.clock import Clock
from rota.core.ports import Repository
from rota.errors import MissingDriver, UnsupportedUrl

_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")
_KNOWN = "sqlite:///file.db, postgresql://host/name, or leave the URL out for memory"


def open_repository(url: str | None, *, clock: Clock, **options: Any) -> Repository:
    """The repository for a URL, not opened yet; None is memory.

    ``options`` go to the repository: ``schema``, ``poll_only``, ``statement_timeout``,
    ``synchronous``. Raises ``UnsupportedUrl`` or ``MissingDriver``.
    """
    if url is None:
        from rota.storage.memory import MemoryRepository

        return MemoryRepository(clock=clock)
    scheme = url.split(":", 1)[0].lower() if "://" in url else ""
    if scheme == "sqlite":
        from rota.storage.sqlite import SQLiteRepository

        return SQLiteRepository(url, clock=clock, **_only(options, _SQLITE))
    if scheme in _POSTGRES:
        try:
            import psycopg  # noqa: F401 - only to say what is missing before anything else does
        except ImportError as error:
            raise MissingDriver(
                f"{scheme}:// needs psycopg, which is not installed ({error}); "
                "run: pip install 'rota[postgres]'"
            ) from error
        from rota.storage.postgres import PostgresRepository

        return PostgresRepository(url, clock=clock, **_only(options, _POSTGRESQL))
    raise UnsupportedUrl(
        f"database URL {_shown(url)} is not one rota knows; use {_KNOWN}", field="url"
    )


_SQLITE = frozenset({"synchronous", "statement_timeout"})
_POSTGRESQL = frozenset({"schema", "poll_only", "statement_timeout"})


def _only(options: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in known and value is not None}


def _shown(url: str) -> str:
    """The URL without what may be a password."""
    head, at, tail = url.partition("?")[0].rpartition("@")
    return f"{head.split('://', 1)[0]}://…@{tail}" if at else tail
