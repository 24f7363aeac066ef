"""What a function takes: its context, its params in and out, and what it refuses."""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime
from typing import Any

import pytest

from rota.core.context import BlockingContext, Context
from rota.core.signature import Signature
from rota.errors import InvalidArgument, InvalidParams
from tests.registry import functions as f
from tests.registry.shapes import Item, Order

DAY = date(2024, 1, 2)


@pytest.mark.parametrize(
    ("fn", "context", "coroutine", "names"),
    [
        (f.send, Context, True, ["invoice_id", "note", "when"]),
        (f.ping, None, True, ["times"]),
        (f.resize, BlockingContext, False, ["path"]),
        (f.add, None, False, ["left", "right"]),
        (f.nothing, None, False, []),
        (f.loose, None, False, ["a", "b"]),
        (f.dotted, Context, True, ["x"]),
        (f.annotated, Context, True, ["x"]),
        (f.extra, Context, True, ["first"]),
        (f.wrapped, Context, True, ["day"]),
        (f.Mailer().send, None, False, ["to"]),
        (f.Mailer(), Context, True, ["to"]),
        (functools.partial(f.add, right=5), None, False, ["left", "right"]),
        (functools.partial(f.add, 5), None, False, ["right"]),
    ],
)
def test_what_a_function_takes(fn: Any, context: Any, coroutine: bool, names: list[str]) -> None:
    signature = Signature.of(fn)

    assert signature.context is context
    assert signature.wants_context is (context is not None)
    assert signature.coroutine is coroutine
    assert [p.name for p in signature.parameters] == names


def test_real_annotations_and_strings_say_the_same() -> None:
    async def real(ctx: Context, day: date) -> date:
        return day

    real.__annotations__ = {"ctx": Context, "day": date, "return": date}

    assert Signature.of(real).context is Context
    assert Signature.of(real).encode({"day": DAY}) == {"day": "2024-01-02"}
    assert Signature.of(real).returns is date


@pytest.mark.parametrize(
    ("fn", "field", "words"),
    [
        (f.late_context, "ctx", "is a Context and not the first parameter; put it first"),
        (f.keyword_context, "ctx", "not the first parameter"),
        (f.wrong_async, "ctx", "is a BlockingContext; annotate it as Context"),
        (f.wrong_plain, "ctx", "is a Context; annotate it as BlockingContext"),
        (f.bare_ctx, "ctx", "has no annotation, .*; annotate it as Context"),
        (f.positional_only, "a", "is positional-only, .*; remove the /"),
        (f.starred, "args", "takes arguments without names, .*; take a list"),
        (f.unresolved, "thing", "cannot be resolved .*; import the type at run time"),
        (f.unconvertible, "sock", r"sock of unconvertible\(\): complex has no JSON form .*; use"),
        (f.generator, "fn", "generator is a generator, .*; return"),
        (f.async_generator, "fn", "is a generator"),
        (f.Mailer.send, "self", "Mailer.send is a method without its object; register the bound"),
    ],
)
def test_what_is_refused_at_registration(fn: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        Signature.of(fn)

    assert caught.value.field == field


def test_a_return_type_nobody_can_resolve_is_no_obstacle() -> None:
    assert Signature.of(f.unresolved_result).result.name == "Any"


class TestEncode:
    def test_values_become_json_and_defaults_are_not_stored(self) -> None:
        signature = Signature.of(f.send)

        assert signature.encode({"invoice_id": 7}) == {"invoice_id": 7}
        assert signature.encode({"invoice_id": 7, "when": DAY}) == {
            "invoice_id": 7,
            "when": "2024-01-02",
        }

    @pytest.mark.parametrize(
        ("params", "field", "words"),
        [
            ({}, "invoice_id", r"send\(\) needs invoice_id; it takes invoice_id: int, note: str"),
            ({"invoice": 1}, "invoice", r"no parameter 'invoice'; did you mean 'invoice_id'\? it"),
            ({"invoice_id": 1, "zzz": 1}, "zzz", "no parameter 'zzz'; it takes invoice_id: int"),
            ({"invoice_id": "7"}, "invoice_id", "invoice_id must be an int, not str; pass an int"),
            ({"invoice_id": 7, "ctx": 1}, "ctx", "no parameter 'ctx'; it takes"),
            ({"invoice_id": 7, 5: 1}, "5", "no parameter 5; it takes"),
        ],
    )
    def test_what_does_not_fit_is_named(self, params: Any, field: str, words: str) -> None:
        for verb in (Signature.of(f.send).encode, Signature.of(f.send).adopt):
            with pytest.raises(InvalidParams, match=words) as caught:
                verb(params)
            assert caught.value.field == field

    def test_extra_keyword_arguments(self) -> None:
        signature = Signature.of(f.extra)

        assert signature.encode({"first": 1, "b": [2]}) == {"first": 1, "b": [2]}
        with pytest.raises(InvalidParams, match="no parameter 'ctx'"):
            signature.encode({"first": 1, "ctx": 2})
        with pytest.raises(InvalidParams, match="b is a set, which JSON has no form for"):
            signature.encode({"first": 1, "b": {1}})

    def test_typed_extra_keyword_arguments(self) -> None:
        signature = Signature.of(f.typed_extra)
        noon = datetime(2024, 1, 1, 12, tzinfo=UTC)

        assert signature.decode(signature.encode({"any": noon})) == {"any": noon}
        with pytest.raises(InvalidParams, match="other must be a datetime, not int"):
            signature.encode({"other": 1})

    def test_arguments_bind_like_a_call(self) -> None:
        signature = Signature.of(f.add)

        assert signature.arguments((1,), {"right": 2}) == {"left": 1, "right": 2}
        with pytest.raises(InvalidParams, match=r"got 3 positional arguments; it takes left: int"):
            signature.arguments((1, 2, 3), {})
        with pytest.raises(InvalidParams, match="got left twice, by place and by name; pass"):
            signature.arguments((1,), {"left": 2})

    def test_keyword_only_parameters_are_not_taken_by_place(self) -> None:
        with pytest.raises(InvalidParams, match="got 2 positional arguments"):
            Signature.of(f.send).arguments((7, "note"), {})


class TestAdopt:
    """Params by work id may be Python values or JSON already: both are stored alike."""

    def test_both_readings_make_the_same_json(self) -> None:
        signature = Signature.of(f.send)
        stored = {"invoice_id": 7, "when": "2024-01-02"}

        assert signature.adopt({"invoice_id": 7, "when": DAY}) == stored
        assert signature.adopt(stored) == stored

    def test_json_of_a_class_is_checked_to_its_leaves(self) -> None:
        def place(order: Order) -> None: ...

        place.__annotations__["order"] = Order
        good = {"id": "12345678-1234-5678-1234-567812345678", "items": [{"name": "a", "price": 1}]}

        stored = Signature.of(place).adopt({"order": good})
        assert stored["order"]["items"] == [{"name": "a", "price": 1.0, "colour": "red"}]
        with pytest.raises(InvalidParams) as caught:
            Signature.of(place).adopt({"order": {**good, "items": [{"name": "a", "price": "1"}]}})
        assert caught.value.field == "order.items[0].price"
        with pytest.raises(InvalidParams) as caught:
            Signature.of(place).adopt({"order": Order("x", [Item("a", 1.0)])})  # type: ignore[arg-type]
        assert caught.value.field == "order.id"

    def test_params_that_are_no_mapping(self) -> None:
        with pytest.raises(InvalidParams, match="params must be a dict, not list; it takes"):
            Signature.of(f.add).adopt([1])  # type: ignore[arg-type]


class TestDecode:
    def test_stored_params_become_arguments(self) -> None:
        assert Signature.of(f.send).decode({"invoice_id": 7, "when": "2024-01-02"}) == {
            "invoice_id": 7,
            "when": DAY,
        }

    @pytest.mark.parametrize(
        ("stored", "field"),
        [
            ({}, "invoice_id"),
            ({"invoice_id": "7"}, "invoice_id"),
            ({"invoice_id": 7, "gone": 1}, "gone"),
            ({"invoice_id": 7, "when": "x"}, "when"),
        ],
    )
    def test_params_that_no_longer_fit_say_so(self, stored: Any, field: str) -> None:
        with pytest.raises(
            InvalidParams, match=r"^stored params no longer fit send\(\): .*; give new"
        ) as caught:
            Signature.of(f.send).decode(stored)

        assert caught.value.field == field

    def test_results_go_by_the_return_annotation(self) -> None:
        result = Signature.of(f.wrapped).result

        assert result.from_json(result.to_json(DAY, "result"), "result") == DAY
