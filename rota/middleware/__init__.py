"""The chain, and one file per middleware."""

from rota.middleware.chain import Middleware

__all__ = ["Middleware"]
