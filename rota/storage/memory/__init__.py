"""The repository that lives in this process: every verb works, nothing survives."""

from rota.storage.memory.repository import MemoryRepository

__all__ = ["MemoryRepository"]
