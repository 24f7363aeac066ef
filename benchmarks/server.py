"""A PostgreSQL server for measuring: durable, and otherwise much as it comes."""

from __future__ import annotations

from rota.testing.postgres_server import PostgresServer

#: The peers' in `../shared/research/baseline.md`; fsync and synchronous_commit stay on.
SETTINGS = {
    "shared_buffers": "1GB",
    "max_connections": "200",
    "shared_preload_libraries": "pg_stat_statements",
}


def durable_server() -> PostgresServer:
    """To be used as a context; its files go with it."""
    return PostgresServer(settings=SETTINGS)
