"""Handles carry the result's type, options have known names, and the two faces stay apart."""

from typing import reveal_type

from rota import BackgroundScheduler, Context, Scheduler, TaskHandle, WorkRegistry

works = WorkRegistry()


@works.register("count")
async def count(ctx: Context, text: str) -> int:
    return len(text)


@works.register("name")
def name(number: int) -> str:
    return str(number)


def takes_text(handle: TaskHandle[str]) -> None: ...


async def schedule(scheduler: Scheduler) -> None:
    handle = await scheduler.schedule(count.bind("abc"), delay=5, unique="k")
    reveal_type(handle)  # N: rota.control.handle.TaskHandle[int]
    reveal_type(await handle.result(timeout=1))  # N: Revealed type is "int"
    by_work = await scheduler.schedule(name, {"number": 1})
    reveal_type(by_work)  # N: rota.control.handle.TaskHandle[str]
    by_id = await scheduler.schedule("count", {"text": "abc"})
    reveal_type(by_id)  # N: rota.control.handle.TaskHandle[Any]

    handles: list[TaskHandle[int]] = [handle]
    takes_text(handle)  # E: incompatible type "TaskHandle[int]"; expected "TaskHandle[str]"
    takes_text(by_work)
    takes_text(by_id)
    handles[0] = by_work  # E: Incompatible types
    (await handle.result()).upper()  # E: "int" has no attribute "upper"

    await scheduler.schedule(count.bind(3))  # E: incompatible type "int"; expected "str"
    await scheduler.schedule(count.bind("abc"), dely=5)  # E: "dely" # E: No overload variant
    await scheduler.schedule("count", max_attemps=3)  # E: "max_attemps" # E: No overload
    await scheduler.schedule(name.bind(1), delay="5 s")  # E: argument types "Bound[str]", "str"
    await scheduler.schedule(name.bind(1), on_conflict="ignore")  # E: No overload variant
    await scheduler.schedule(name.bind(1), {"number": 2})  # E: No overload variant
    await scheduler.schedule_many([name.bind(1), count.bind("abc")], prio=1)  # E: "prio"


def schedule_blocking(scheduler: BackgroundScheduler) -> None:
    handle = scheduler.schedule(count.bind("abc"))
    reveal_type(handle.result(timeout=1))  # N: Revealed type is "int"
    handle.result().upper()  # E: "int" has no attribute "upper"
    scheduler.schedule(name.bind("1"))  # E: incompatible type "str"; expected "int"
    scheduler.schedule(name.bind(1), dely=5)  # E: "dely" # E: No overload variant


async def mix_the_faces(background: BackgroundScheduler, scheduler: Scheduler) -> None:
    await background.schedule(name.bind(1))  # E: in "await"
    await background.schedule(name.bind(1)).result()  # E: in "await"
    await background.cancel("id")  # E: in "await"
    await background.claim(["mail"])  # E: in "await"
    await background.changes()  # E: in "await"
    for pulled in background.claim(["mail"], wait=1):
        await pulled.done()  # E: in "await" # E: does not return a value
    BackgroundScheduler(works, concurrency=5, stall_after=60)
    BackgroundScheduler(works, concurency=5)  # E: "concurency"
    await background.scheduler.schedule(name.bind(1))
    (await scheduler.schedule(name.bind(1))).result().upper()  # E: has no attribute "upper"


@works.register("late")
async def late(text: str, ctx: Context) -> int:
    return len(text)


late.bind("abc")  # E: "ctx"
