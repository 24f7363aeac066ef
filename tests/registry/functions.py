"""Functions the registry tests register; at module level, as a program's would be."""

from __future__ import annotations

import functools
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    import rota.core.context
    from rota.core.context import BlockingContext, Context
    from tests.registry.shapes import Nowhere  # type: ignore[attr-defined]


async def send(ctx: Context, invoice_id: int, *, note: str = "", when: date | None = None) -> str:
    return f"{invoice_id}{note}{when}"


async def ping(times: int = 1) -> int:
    return times


def resize(ctx: BlockingContext, path: str) -> str:
    return path


def add(left: int, right: int = 1) -> int:
    return left + right


def nothing() -> None:
    return None


def loose(a, b=2):  # type: ignore[no-untyped-def]
    return a, b


async def dotted(ctx: rota.core.context.Context, x: int) -> None: ...


async def annotated(ctx: Annotated[Context, "the attempt"], x: int) -> None: ...


async def extra(ctx: Context, first: int, **rest: Any) -> dict[str, Any]:
    return {"first": first, **rest}


def typed_extra(**when: datetime) -> None: ...


async def late_context(x: int, ctx: Context) -> None: ...


async def keyword_context(*, ctx: Context) -> None: ...


async def wrong_async(ctx: BlockingContext) -> None: ...


def wrong_plain(ctx: Context) -> None: ...


def bare_ctx(ctx, x: int) -> None: ...  # type: ignore[no-untyped-def]


def positional_only(a: int, /, b: int) -> None: ...


def starred(*args: int) -> None: ...


def unresolved(thing: Nowhere) -> None: ...


def unresolved_result(x: int) -> Nowhere: ...


def unconvertible(x: int, sock: complex) -> None: ...


def generator(x: int) -> Any:
    yield x


async def async_generator(x: int) -> Any:
    yield x


class Mailer:
    def send(self, to: str) -> str:
        return to

    async def __call__(self, ctx: Context, to: str) -> str:
        return to


def logged(fn: Any) -> Any:
    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await fn(*args, **kwargs)

    return wrapper


@logged
async def wrapped(ctx: Context, day: date) -> date:
    return day
