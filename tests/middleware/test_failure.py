"""An exception as it is stored: its traceback begins where the work does."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import FunctionType

import pytest

from rota.core.failure import to_json


def stored(fail: Callable[[], object]) -> str:
    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    inside = caught.value.with_traceback(caught.tb.tb_next)
    trace: str = json.loads(to_json(inside))["traceback"]
    return trace


def work() -> float:
    return 1 / 0


def as_rotas_own(function: FunctionType) -> FunctionType:
    """The same function, as if a module of rota had it."""
    names = {"__name__": "rota.scheduler.made_up"}
    return FunctionType(function.__code__, names, closure=function.__closure__)


def called_by_rota(inner: Callable[[], object]) -> FunctionType:
    def rotas_own() -> object:
        return inner()

    assert isinstance(rotas_own, FunctionType)
    return as_rotas_own(rotas_own)


def test_a_traceback_begins_in_the_work() -> None:
    trace = stored(called_by_rota(called_by_rota(work)))
    assert "in work" in trace
    assert "rotas_own" not in trace
    assert trace.startswith("Traceback (most recent call last):\n")
    assert trace.endswith("ZeroDivisionError: division by zero\n")


def test_what_the_work_calls_of_rota_is_kept() -> None:
    inner = called_by_rota(work)

    def calls_rota() -> object:
        return inner()

    trace = stored(called_by_rota(calls_rota))
    assert trace.index("in calls_rota") < trace.index("in rotas_own") < trace.index("in work")


def test_a_failure_of_rota_itself_is_told_whole() -> None:
    assert isinstance(work, FunctionType)
    assert stored(called_by_rota(as_rotas_own(work))).count("in rotas_own") == 1
