"""The PostgreSQL repository: many nodes, one database."""

from rota.errors import MissingDriver


def _require_driver() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise MissingDriver(
            "psycopg, the PostgreSQL driver, is not installed; run: pip install 'rota[postgres]'"
        ) from error


_require_driver()

from rota.storage.postgres.repository import PostgresRepository  # noqa: E402 - its modules need it

__all__ = ["PostgresRepository"]
