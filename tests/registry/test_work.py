"""Registering: options, runners, and a function that stays callable."""

from __future__ import annotations

import functools
import inspect
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from rota.core.backoff import Backoff
from rota.core.clock import SystemClock
from rota.core.context import Context, Token
from rota.core.task import Claimed
from rota.errors import InvalidArgument, InvalidName, InvalidParams
from rota.registry import Bound, Work, WorkOptions, WorkRegistry
from tests.registry import functions as f


def make_context() -> Context:
    claimed = Claimed(
        "id", "w", "default", 0, 1, 1, "{}", "{}", 0.0, 0, None, 0, None, None, None, None
    )
    return Context(claimed, token=Token(1, 1), clock=SystemClock())


class TestCalling:
    async def test_a_work_is_called_as_it_was_written(self) -> None:
        works = WorkRegistry()

        assert await works.register("send")(f.send)(make_context(), 7, note="!") == "7!None"
        assert await works.register("ping")(f.ping)(times=3) == 3
        assert works.register("add")(f.add)(1, right=4) == 5

    def test_it_looks_like_its_function(self) -> None:
        work = WorkRegistry().register("add")(f.add)

        assert inspect.signature(work) == inspect.signature(f.add)
        assert work.__name__ == "add"  # type: ignore[attr-defined]
        assert work.location == "tests.registry.functions:add"
        assert repr(work) == "<Work 'add': tests.registry.functions:add>"

    def test_one_function_under_two_ids(self) -> None:
        works = WorkRegistry()
        first = works.register("first")(f.add)
        second = works.register("second")(first)

        assert second.fn is f.add
        assert second.id == "second"


class TestBind:
    def test_params_are_encoded_and_checked_at_once(self) -> None:
        work = WorkRegistry().register("send")(f.send)

        bound = work.bind(7, when=date(2024, 1, 2))

        assert bound == Bound(work, {"invoice_id": 7, "when": "2024-01-02"})
        with pytest.raises(InvalidParams, match="invoice_id must be an int"):
            work.bind("7")  # type: ignore[arg-type]
        with pytest.raises(InvalidParams, match=r"send\(\) needs invoice_id"):
            work.bind()  # type: ignore[call-arg]

    def test_it_is_frozen(self) -> None:
        bound = WorkRegistry().register("add")(f.add).bind(1)

        with pytest.raises(AttributeError):
            bound.params = {}  # type: ignore[misc]


class TestRunner:
    def test_the_default_follows_the_function(self) -> None:
        works = WorkRegistry()

        assert works.register("a")(f.send).runner == "coroutine"
        assert works.register("b")(f.resize).runner == "thread"
        assert works.register("c", runner="process")(f.add).runner == "process"
        assert works.register("d", runner="thread")(f.add).runner == "thread"

    @pytest.mark.parametrize(
        ("fn", "runner", "words"),
        [
            (f.ping, "thread", "is a coroutine function and runs on the event loop; write it"),
            (f.ping, "process", "is a coroutine function"),
            (f.add, "coroutine", "is a plain function and would block the event loop; write it"),
            (f.resize, "process", "takes a context, which cannot follow it .*; drop"),
            (lambda: None, "process", r"cannot be imported by another process .*; define it"),
            (f.Mailer().send, "process", "cannot be imported"),
            (functools.partial(f.add, 1), "process", "cannot be imported"),
        ],
    )
    def test_a_runner_that_cannot_run_it_is_refused(self, fn: Any, runner: Any, words: str) -> None:
        with pytest.raises(InvalidArgument, match=words) as caught:
            WorkRegistry().register("x", runner=runner)(fn)

        assert caught.value.field == "runner"

    def test_a_closure_cannot_go_to_another_process(self) -> None:
        def inner() -> None: ...

        with pytest.raises(InvalidArgument, match="cannot be imported by another process"):
            WorkRegistry().register("x", runner="process")(inner)

    def test_a_transactional_work_needs_a_context(self) -> None:
        works = WorkRegistry()

        assert works.register("ok", transactional=True)(f.send).options.transactional is True
        with pytest.raises(InvalidArgument, match="no context to complete through; take ctx: Con"):
            works.register("x", transactional=True)(f.ping)

    def test_what_is_no_function_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="work 'x' is a int, not a function; register"):
            WorkRegistry().register("x")(5)  # type: ignore[call-overload]


class TestOptions:
    def test_they_are_kept_as_plain_values(self) -> None:
        backoff = Backoff(first=1)
        work = WorkRegistry().register(
            "a",
            aliases=["b"],
            queue="mail",
            priority=5,
            max_attempts=3,
            backoff=backoff,
            timeout=timedelta(minutes=1),
            expires=60,
            max_rescues=0,
            store_result=False,
            meta={"team": "x"},
        )(f.add)

        assert work.aliases == ("b",)
        assert work.options.said() == {
            "queue": "mail",
            "priority": 5,
            "max_attempts": 3,
            "backoff": backoff,
            "timeout": 60.0,
            "expires": 60.0,
            "max_rescues": 0,
            "store_result": False,
            "transactional": False,
            "meta": {"team": "x"},
        }

    def test_unset_is_not_none(self) -> None:
        work = WorkRegistry().register("a", max_rescues=None, timeout=None, queue=None)(f.add)

        assert work.options.given == {"max_rescues", "timeout", "transactional"}
        assert work.options.max_rescues is None
        assert work.options.max_attempts is None
        assert WorkOptions().said() == {}

    def test_a_backoff_may_be_a_function(self) -> None:
        def wait(attempt: int) -> float:
            return 2.0 * attempt

        assert WorkRegistry().register("a", backoff=wait)(f.add).options.backoff is wait

    @pytest.mark.parametrize(
        ("option", "value", "words"),
        [
            ("queue", "Mail!", "is not a queue name; use"),
            ("priority", 101, "must be a whole number from -100 to 100"),
            ("max_attempts", 0, "max_attempts is 0; it must be a whole number from 1, or None"),
            ("max_attempts", True, "max_attempts is True"),
            ("max_rescues", -1, "max_rescues is -1; it must be a whole number from 0"),
            ("backoff", 5, "backoff is a int; pass Backoff"),
            ("backoff", Backoff, "backoff is a type; pass Backoff"),
            ("timeout", -1, "timeout is -1; it must be zero or more"),
            ("timeout", 0, "timeout is 0, which no run could meet; pass"),
            ("timeout", "5", "timeout must be seconds or a timedelta, not str"),
            ("expires", datetime(2030, 1, 1, tzinfo=UTC), "is an instant, .*; pass seconds"),
            ("runner", "fork", "runner is 'fork'; it must be one of 'coroutine', 'thread'"),
            ("store_result", 1, "store_result is a int; it must be True or False"),
            ("transactional", "yes", "transactional is a str; it must"),
            ("meta", [1], "meta must be a dict with string keys, not list"),
            ("meta", {"a": {1}}, "meta cannot be written as JSON"),
        ],
    )
    def test_a_wrong_option_is_named(self, option: str, value: Any, words: str) -> None:
        with pytest.raises(InvalidArgument, match=words) as caught:
            WorkRegistry().register("x", **{option: value})

        assert caught.value.field == option

    def test_an_unknown_option_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="max_attemps"):
            WorkRegistry().register("x", max_attemps=3)  # type: ignore[call-arg]


class TestNames:
    def test_the_id_is_not_optional(self) -> None:
        with pytest.raises(InvalidName, match=r"got a function where the work id belongs; write"):
            WorkRegistry().register(f.add)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            WorkRegistry().register()  # type: ignore[call-arg]

    @pytest.mark.parametrize("name", ["", "a b", 5, "-a", "x" * 201])
    def test_ids_and_aliases_have_an_alphabet(self, name: Any) -> None:
        with pytest.raises(InvalidName):
            WorkRegistry().register(name)
        with pytest.raises(InvalidName):
            WorkRegistry().register("ok", aliases=[name])

    def test_aliases_are_a_list(self) -> None:
        with pytest.raises(InvalidName, match=r"pass a list: aliases=\['old'\]"):
            WorkRegistry().register("x", aliases="old")

    def test_a_taken_name_is_refused_and_nothing_changes(self) -> None:
        works = WorkRegistry()
        works.register("a", aliases=["b"])(f.add)

        for name, aliases in (("a", []), ("b", []), ("c", ["a"]), ("c", ["b"]), ("c", ["c"])):
            with pytest.raises(
                InvalidName, match=r"is taken by tests.registry.functions:\w+; give"
            ):
                works.register(name, aliases=aliases)(f.ping)
        assert works.ids() == ("a", "b")
        assert works.version == 1


def test_works_are_values_of_one_type() -> None:
    assert isinstance(WorkRegistry().register("a")(f.send), Work)
