"""Binding: the context is dropped from the parameters, the rest is checked."""

from rota.core.context import BlockingContext, Context
from rota.registry import WorkRegistry

works = WorkRegistry()


@works.register("send", queue="mail", max_attempts=None)
async def send(ctx: Context, invoice_id: int, note: str = "") -> str:
    return note


@works.register("resize", runner="thread")
def resize(ctx: BlockingContext, path: str, *, width: int) -> bytes:
    return b""


@works.register("ping")
async def ping(times: int = 1) -> int:
    return times


@works.register("add")
def add(left: int, right: int) -> float:
    return left + right


send.bind(7)
send.bind(invoice_id=7, note="x")
send.bind("7")  # E: incompatible type "str"; expected "int"
send.bind()  # E: Missing positional argument "invoice_id"
send.bind(invoice_id=7, nope=1)  # E: Unexpected keyword argument "nope"
send.bind(7, "x", 3)  # E: Too many arguments

resize.bind("a", width=5)
resize.bind("a", 5)  # E: Too many positional arguments
resize.bind("a", width="5")  # E: incompatible type "str"; expected "int"

ping.bind()
ping.bind(times=None)  # E: incompatible type "None"; expected "int"

add.bind(1, right=2)
add.bind(1)  # E: Missing positional argument "right"
