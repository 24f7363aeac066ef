"""Functions under stable ids, and what is known of each before any task exists."""

from rota.registry.book import WorkRegistry
from rota.registry.command import CommandResult
from rota.registry.options import Runner, WorkOptions
from rota.registry.work import Bound, Work

__all__ = ["Bound", "CommandResult", "Runner", "Work", "WorkOptions", "WorkRegistry"]
