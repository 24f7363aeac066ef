"""The PostgreSQL repository: many nodes, one database."""

from rota.errors import MissingDriver

try:
    import psycopg  # noqa: F401
except ImportError as error:
    raise MissingDriver(
        "psycopg, the PostgreSQL driver, is not installed; run: pip install 'rota[postgres]'"
    ) from error

from rota.storage.postgres.repository import PostgresRepository

__all__ = ["PostgresRepository"]
