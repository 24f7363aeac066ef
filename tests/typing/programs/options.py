"""Registration options are typed: names, runners, durations."""

from datetime import timedelta

from rota.core.backoff import Backoff
from rota.registry import WorkRegistry

works = WorkRegistry()

works.register("a", timeout=timedelta(seconds=1), expires=2.5, backoff=Backoff(first=1))
works.register("b", timeout=None, max_rescues=None, backoff=lambda attempt: attempt * 2.0)
works.register("c", runner="fork")  # E: incompatible type "Literal['fork']"
works.register("d", priority="high")  # E: incompatible type "str"
works.register("e", max_attemps=3)  # E: Unexpected keyword argument "max_attemps"
works.register()  # E: Too few arguments for "register"
