"""Result types flow from the function to what is bound, and calls stay as written."""

from typing import reveal_type

from rota.core.context import BlockingContext, Context
from rota.registry import Bound, Work, WorkRegistry

works = WorkRegistry()


@works.register("send")
async def send(ctx: Context, invoice_id: int) -> str:
    return ""


@works.register("resize")
def resize(ctx: BlockingContext, path: str) -> bytes:
    return b""


@works.register("ping")
async def ping(times: int = 1) -> int:
    return times


@works.register("add")
def add(left: int, right: int) -> float:
    return left + right


reveal_type(send.bind(7))  # N: rota.registry.work.Bound[str]
reveal_type(resize.bind("a"))  # N: rota.registry.work.Bound[bytes]
reveal_type(ping.bind())  # N: rota.registry.work.Bound[int]
reveal_type(add.bind(1, 2))  # N: rota.registry.work.Bound[float]


async def call(ctx: Context, blocking: BlockingContext) -> None:
    reveal_type(await send(ctx, 7))  # N: Revealed type is "str"
    reveal_type(await ping(times=2))  # N: Revealed type is "int"
    reveal_type(resize(blocking, "a"))  # N: Revealed type is "bytes"
    reveal_type(add(1, 2))  # N: Revealed type is "float"
    await send(7)  # E: Missing positional argument # E: incompatible type "int"; expected "Context"
    add("1", 2)  # E: incompatible type "str"; expected "int"


def takes_text(bound: Bound[str]) -> None: ...


def takes_any(bound: Bound[object]) -> None: ...


def takes_work(work: Work[..., int]) -> None: ...


takes_text(send.bind(7))
takes_text(ping.bind())  # E: incompatible type "Bound[int]"; expected "Bound[str]"
takes_any(ping.bind())
takes_work(ping)
takes_work(send)  # E: incompatible type "ContextWork[[int], str]"
