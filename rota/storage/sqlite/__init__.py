"""The repository in one SQLite file, shared by the nodes of one machine."""

from rota.storage.sqlite.repository import SQLiteRepository

__all__ = ["SQLiteRepository"]
