"""A scheduler that only asks and says: what most commands do their work with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from rota.cli import database
from rota.cli.options import Place

if TYPE_CHECKING:
    from rota.app import Scheduler

T = TypeVar("T")

#: What it calls itself among the nodes, for the moment it is there.
NAME = "rota-cli"


def ask(place: Place, verb: Callable[[Scheduler], Awaitable[T]]) -> T:
    """Open the database, do this, close it."""

    async def once() -> T:
        async with client(place) as scheduler:
            return await verb(scheduler)

    return asyncio.run(once())


@asynccontextmanager
async def client(place: Place) -> AsyncIterator[Scheduler]:
    """A started scheduler that runs nothing; the database must exist and fit this version."""
    logging.getLogger("rota").addHandler(logging.NullHandler())
    async with _made(place) as scheduler:
        yield scheduler


def _made(place: Place) -> Scheduler:
    from rota.app import Scheduler
    from rota.cli.loading import as_client, load
    from rota.registry import WorkRegistry

    if place.app is not None:
        return as_client(load(place.app), place, name=NAME)
    database.check(place.named, place.schema)
    return Scheduler(
        WorkRegistry(),
        place.named,
        queues=[],
        name=NAME,
        schema=place.schema,
        allow_unknown=True,
        start_timeout=database.PATIENCE,
    )
