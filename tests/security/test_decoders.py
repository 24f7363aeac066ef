"""What is read back may be anything: decoders answer or raise rota's own errors."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rota import WorkRegistry
from rota.core.backoff import Backoff
from rota.core.clock import SystemClock
from rota.core.options import decode_options
from rota.core.recurring import Rules
from rota.errors import InvalidArgument, InvalidTrigger, RotaError
from rota.storage.memory import MemoryRepository
from rota.triggers import from_json
from tests.conftest import Database

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=12)
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
#: The keys stored forms have, with anything below them.
TRIGGER_KEYS = [
    "every_seconds",
    "anchor",
    "cron",
    "timezone",
    "once",
    "calendar",
    "at",
    "any_of",
    "all_of",
    "apscheduler",
    "days",
    "months",
    "start_at",
    "end_at",
]
OPTION_KEYS = [
    "max_attempts",
    "backoff",
    "timeout_seconds",
    "max_rescues",
    "store_result",
    "on_done",
    "on_failed",
]
RULE_KEYS = [
    "catchup",
    "catchup_limit",
    "misfire_grace_seconds",
    "overlap",
    "max_instances",
    "start_at",
    "end_at",
    "max_runs",
    "jitter_seconds",
    "version",
]


def under(keys: list[str]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(keys), json_values, max_size=4) | json_values


FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FUZZ
@given(under(TRIGGER_KEYS))
def test_triggers(data: Any) -> None:
    with suppress(InvalidTrigger):
        from_json(data)


@FUZZ
@given(under(OPTION_KEYS).map(json.dumps) | st.text(max_size=20))
def test_options(text: str) -> None:
    with suppress(RotaError):
        decode_options(text)


@FUZZ
@given(under(RULE_KEYS).map(json.dumps) | st.text(max_size=20))
def test_rules(text: str) -> None:
    with suppress(RotaError):
        Rules.decode(text)


@FUZZ
@given(under(["first_seconds", "factor", "max_seconds", "jitter"]))
def test_backoff(data: Any) -> None:
    with suppress(RotaError):
        Backoff.from_json(data)


@pytest.mark.parametrize("kind", [int, str, list[int], dict[str, float], tuple[int, str]])
@FUZZ
@given(value=json_values)
def test_results_and_params(kind: Any, value: Any) -> None:
    works = WorkRegistry()

    async def demo(x: Any) -> Any:
        return x

    demo.__annotations__ = {"x": kind, "return": kind}
    work = works.register("demo")(demo)
    with suppress(RotaError):
        work.signature.result.from_json(value, "result")
    with suppress(RotaError):
        work.signature.decode({"x": value})


cursors = (
    st.text(max_size=30)
    | st.from_regex(r"-?[0-9]{1,25}", fullmatch=True)
    | st.from_regex(r"[0-9]{1,25}[.:,\-][0-9]{1,25}", fullmatch=True)
)


@FUZZ
@given(cursors)
def test_feed_cursors_in_memory(cursor: str) -> None:
    with suppress(InvalidArgument):
        MemoryRepository(clock=SystemClock()).updated_since(cursor, 10)


def test_feed_cursors_in_databases(durable: Database) -> None:
    repository = durable.repository()

    @settings(max_examples=60, deadline=None)
    @given(cursors)
    def read(cursor: str) -> None:
        with suppress(RotaError):
            repository.updated_since(cursor, 10)

    read()


async def test_page_cursors(database: Database) -> None:
    odd = ["", "x", "0" * 36, "-1", "٣", "\ud800", "\x00", "a" * 1000, "' or 1=1 --", "{}"]
    async with database.scheduler(WorkRegistry(), queues=[]) as scheduler:
        for cursor in odd:
            with pytest.raises(InvalidArgument) as caught:
                await scheduler.find(after=cursor)
            assert caught.value.field == "after"
