"""Read the database's URL."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from rota.errors import UnsupportedUrl

_SCHEMES = {"postgresql", "postgres", "postgresql+psycopg"}


def parse_url(url: str | URL) -> URL:
    """The URL for SQLAlchemy with psycopg 3; any other driver or database is refused."""
    scheme = url.drivername if isinstance(url, URL) else url.partition(":")[0]
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        # Not the URL itself: it may hold a password.
        raise UnsupportedUrl(
            f"this {scheme!r} URL cannot be read; write postgresql://user@host:5432/database",
            field="url",
        ) from error
    if parsed.drivername not in _SCHEMES:
        raise UnsupportedUrl(
            f"{parsed.drivername!r} is not PostgreSQL by psycopg; "
            "write postgresql://user@host:5432/database",
            field="url",
        )
    return parsed.set(drivername="postgresql+psycopg")
