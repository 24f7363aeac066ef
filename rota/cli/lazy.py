"""A command group that imports a command when it is called, and lists all without importing any."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click


class Lazy(NamedTuple):
    """Where a command is defined, and the first sentence of its help."""

    module: str
    name: str
    help: str


class LazyGroup(click.Group):
    """A group whose ``lazy`` commands are imported one at a time."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **options: Any) -> None:
        super().__init__(*args, **options)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.lazy, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self.lazy.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        found = getattr(import_module(place.module), place.name)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from what is said here about each."""
        own = super().list_commands(ctx)
        rows = {name: self.commands[name].get_short_help_str(100) for name in own}
        rows |= {name: place.help for name, place in self.lazy.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows.items()))
