"""What each annotation accepts, how it looks in JSON, and what it says of a misfit."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Union
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from rota.core.convert import NoForm, converter, result_converter
from rota.core.outcome import Ignore, Retry
from rota.errors import InvalidParams
from tests.registry.shapes import (
    Address,
    Colour,
    Connection,
    Everything,
    HoldsConnection,
    Item,
    Level,
    Loose,
    Money,
    Order,
    Point,
    Positive,
    Rights,
    Tree,
    UserId,
)

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
ID = UUID("12345678-1234-5678-1234-567812345678")
TOMS = [Item("a", 1.5), Item("b", 2.0, Colour.BLUE)]


@pytest.mark.parametrize(
    ("annotation", "value", "form"),
    [
        (None, None, None),
        (bool, True, True),
        (int, 7, 7),
        (int, Level.HIGH, 2),
        (float, 1.5, 1.5),
        (float, 3, 3.0),
        (str, "é\n", "é\n"),
        (bytes, b"\x00\xff", "AP8="),
        (datetime, NOON, "2024-05-01T12:00:00+00:00"),
        (datetime, NOON.astimezone(timezone(timedelta(hours=2))), "2024-05-01T14:00:00+02:00"),
        (date, date(2024, 2, 29), "2024-02-29"),
        (time, time(9, 30), "09:30:00"),
        (timedelta, timedelta(minutes=1, microseconds=5), 60.000005),
        (UUID, ID, str(ID)),
        (Decimal, Decimal("12.50"), "12.50"),
        (Path, Path("/tmp/x"), "/tmp/x"),
        (PurePosixPath, PurePosixPath("a/b"), "a/b"),
        (Colour, Colour.RED, "red"),
        (Level, Level.HIGH, 2),
        (Rights, Rights.READ | Rights.WRITE, 3),
        (UserId, 4, 4),
        (Money, Decimal(1), "1"),
        (Annotated[list[int], "x"], [1], [1]),
        (Literal["a", 1], 1, 1),
        (Literal[Colour.RED], Colour.RED, "red"),
        (date | None, None, None),
        (date | None, date(2024, 1, 1), "2024-01-01"),
        (int | str | None, "x", "x"),
        (float | int, 3, 3),
        (Union[datetime, int], NOON, "2024-05-01T12:00:00+00:00"),  # noqa: UP007 - both spellings
        (list[datetime], [NOON], ["2024-05-01T12:00:00+00:00"]),
        (list, [1, "a"], [1, "a"]),
        (Sequence[int], [1, 2], [1, 2]),
        (tuple[int, ...], (1, 2), [1, 2]),
        (tuple[int, Colour], (1, Colour.RED), [1, "red"]),
        (set[int], {3, 1, 2}, [1, 2, 3]),
        (frozenset[Colour], frozenset({Colour.RED, Colour.BLUE}), ["blue", "red"]),
        (dict[str, date], {"a": date(2024, 1, 1)}, {"a": "2024-01-01"}),
        (dict[int, int], {1: 2}, {"1": 2}),
        (dict[UUID, str], {ID: "x"}, {str(ID): "x"}),
        (dict[Colour, int], {Colour.RED: 1}, {"red": 1}),
        (dict[Level, int], {Level.LOW: 1}, {"1": 1}),
        (Mapping[str, int], {"a": 1}, {"a": 1}),
        (dict, {"a": [1]}, {"a": [1]}),
        (Item, Item("a", 1.5), {"name": "a", "price": 1.5, "colour": "red"}),
        (Item | None, Item("a", 1.5), {"name": "a", "price": 1.5, "colour": "red"}),
        (Item | str, "a", "a"),
        (Point, Point(1, 2), {"x": 1, "y": 2}),
        (
            Address,
            {"street": "s", "since": date(2024, 1, 1)},
            {"street": "s", "since": "2024-01-01"},
        ),
        (Loose, {"key": "k", "wait": timedelta(seconds=2)}, {"key": "k", "wait": 2.0}),
        (Any, {"a": [1, None, {"b": 0.5}]}, {"a": [1, None, {"b": 0.5}]}),
        (inspect.Parameter.empty, [True], [True]),
    ],
)
def test_each_annotation_there_and_back(annotation: Any, value: Any, form: Any) -> None:
    made = converter(annotation)

    encoded = made.to_json(value, "x")
    decoded = made.from_json(json.loads(json.dumps(encoded)), "x")

    assert encoded == form
    assert type(encoded) is type(form)
    assert decoded == value
    if not (annotation is int or annotation is float):
        assert type(decoded) is type(value)


def test_nested_types_there_and_back() -> None:
    order = Order(ID, TOMS, notes={"a": "b"})
    value = Everything(
        order,
        {"street": "s", "since": date(2024, 1, 1), "flat": 3},
        (Point(1), Point(2, 3)),
        (1, Colour.BLUE),
        {Level.LOW},
        {7: Decimal("1.5")},
        Path("a"),
        {"k": [1]},
    )
    made = converter(Everything)

    form = made.to_json(value, "x")

    assert form["order"]["items"][1] == {"name": "b", "price": 2.0, "colour": "blue"}
    assert "total" not in form["order"]
    assert made.from_json(json.loads(json.dumps(form)), "x") == value


def test_a_type_that_contains_itself() -> None:
    tree = Tree(1, [Tree(2, [Tree(3)])], parent=Tree(0))
    made = converter(Tree)

    assert made.from_json(made.to_json(tree, "x"), "x") == tree
    with pytest.raises(InvalidParams) as caught:
        made.to_json(Tree(1, [Tree(2, [Tree("3")])]), "tree")  # type: ignore[arg-type]
    assert caught.value.field == "tree.children[0].children[0].value"


def test_missing_fields_take_the_defaults_of_today() -> None:
    assert converter(Item).from_json({"name": "a", "price": 1}, "x") == Item("a", 1.0)
    assert converter(Point).from_json({"x": 1}, "x") == Point(1, 0)


def test_sequences_accept_tuples_and_come_back_as_lists() -> None:
    made = converter(Sequence[int])

    assert made.from_json(made.to_json((1, 2), "x"), "x") == [1, 2]


def test_what_is_encoded_is_a_copy() -> None:
    values = [1, 2]
    form = converter(list[int]).to_json(values, "x")
    values.append(3)

    assert form == [1, 2]


@pytest.mark.parametrize(
    ("annotation", "value", "field", "words"),
    [
        (int, True, "x", "must be an int, not bool; pass an int"),
        (int, "7", "x", "must be an int, not str"),
        (int, 7.0, "x", "must be an int, not float"),
        (int, None, "x", "must be an int, not None"),
        (bool, 1, "x", "must be a bool, not int"),
        (float, True, "x", "must be a float, not bool"),
        (float, math.nan, "x", "is nan, which JSON has no form for; pass a finite"),
        (float, math.inf, "x", "is inf, which"),
        (float, 10**309, "x", "too large for a float; annotate it as int"),
        (str, b"x", "x", "must be a str, not bytes"),
        (bytes, "x", "x", "must be bytes, not str"),
        (datetime, datetime(2024, 1, 1), "x", "without a time zone, which names no instant; pass"),
        (datetime, "2024-01-01", "x", "must be a datetime, not str"),
        (date, NOON, "x", "must be a date, not datetime; pass value.date()"),
        (time, time(9, tzinfo=ZoneInfo("Europe/Paris")), "x", "no offset without a date; pass"),
        (Decimal, Decimal("NaN"), "x", "is NaN, not a number; pass a finite"),
        (Colour, "red", "x", "must be a Colour, not str; pass one of Colour.RED, Colour.BLUE"),
        (Literal["a", "b"], "c", "x", "is not one of 'a', 'b'; pass one of them"),
        (Literal[1], True, "x", "is not one of 1; pass"),
        (Literal["a"], [], "x", "is not one of 'a'; pass"),
        (int | str, 1.5, "x", "must be int | str, and this float is none of them; pass"),
        (list[int], [1, "a"], "x[1]", "must be an int, not str"),
        (list[int], (1,), "x", "must be a list, not tuple"),
        (Sequence[str], "abc", "x", "must be a Sequence, not str"),
        (tuple[int, str], (1,), "x", "has 1 items, not 2; pass tuple[int, str]"),
        (tuple[int, str], (1, 2), "x[1]", "must be a str, not int"),
        (set[int], [1], "x", "must be a set, not list"),
        (dict[str, int], {"a": "b"}, "x.a", "must be an int, not str"),
        (dict[str, int], {1: 1}, "x", "has a key that must be a str, not int"),
        (dict[str, list[float]], {"a": [1.0, "b"]}, "x.a[1]", "must be a float, not str"),
        (Item, {"name": "a", "price": 1.0}, "x", "must be a Item, not dict"),
        (Order, Order(ID, [*TOMS, Item("c", "1")]), "x.items[2].price", "must be a float"),  # type: ignore[arg-type]
        (Address, {"street": "s"}, "x.since", "is missing, and Address needs it; pass it"),
        (Any, {1, 2}, "x", "is a set, which JSON has no form for; annotate"),
        (Any, {"a": [0, {"b": Connection()}]}, "x.a[1].b", "is a Connection, which JSON"),
        (Any, {"a": {1: 2}}, "x.a", "has a key of type int, and JSON only knows text; use"),
        (Any, [math.nan], "x[0]", "is nan, which JSON has no form for; pass"),
    ],
)
def test_a_value_that_misfits_is_named(annotation: Any, value: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        converter(annotation).to_json(value, "x")

    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field} ")
    assert words in str(caught.value)
    assert "; " in str(caught.value)


@pytest.mark.parametrize(
    ("annotation", "form", "field", "words"),
    [
        (int, 1.0, "x", "must be an int, not float"),
        (bytes, "a", "x", "is not base64; pass base64 text"),
        (bytes, "a\u00e9", "x", "is not base64"),
        (datetime, "soon", "x", "is not an ISO 8601 datetime; pass"),
        (datetime, "2024-01-01T00:00:00", "x", "is a datetime without a time zone"),
        (datetime, 5, "x", "must be an ISO 8601 datetime, not int"),
        (date, "2024-02-30", "x", "is not an ISO 8601 date"),
        (timedelta, 1e300, "x", "is too long for a timedelta"),
        (timedelta, "5", "x", "must be a number of seconds, not str"),
        (UUID, "zz", "x", "is not a UUID as text"),
        (Decimal, "1,5", "x", "is not a decimal number"),
        (Decimal, "Infinity", "x", "is Infinity, not a number"),
        (Decimal, 1.5, "x", "must be a decimal number as text, not float"),
        (Colour, "green", "x", "is not a value of Colour; pass one of 'red', 'blue'"),
        (Level, True, "x", "is not a value of Level"),
        (Colour, ["red"], "x", "is not a value of Colour"),
        (Rights, 64, "x", "is not a value of Rights"),
        (list[date], ["2024-01-01", "x"], "x[1]", "is not an ISO 8601 date"),
        (tuple[int, ...], "x", "x", "must be a list, not str"),
        (set[Any], [[1]], "x", "has items no set can hold"),
        (dict[int, int], {"a": 1}, "x", "has a key that is not a whole number"),
        (
            Item,
            {"name": "a", "price": 1, "colr": "red"},
            "x.colr",
            "is unknown to Item; did you mean",
        ),
        (Item, {"name": "a"}, "x.price", "is missing, and Item needs it"),
        (Item, [], "x", "must be a JSON object like Item, not list"),
        (Positive, {"value": 0}, "x", "was refused by Positive: value must be above 0; pass"),
        (Loose, {"wait": 1}, "x.key", "is missing, and Loose needs it"),
        (
            Address,
            {"street": "s", "since": "2024-01-01", "zip": 1},
            "x.zip",
            "is unknown to Address",
        ),
    ],
)
def test_a_form_that_misfits_is_named(annotation: Any, form: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        converter(annotation).from_json(form, "x")

    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field} ")
    assert words in str(caught.value)
    assert "; " in str(caught.value)


def test_a_message_never_shows_the_value() -> None:
    with pytest.raises(InvalidParams) as caught:
        converter(int).to_json("s3cret", "x")

    assert "s3cret" not in str(caught.value)


class TestUnion:
    def test_a_value_that_would_return_as_another_type_is_refused(self) -> None:
        with pytest.raises(InvalidParams, match=r"is a UUID that would come back as str; annotate"):
            converter(str | UUID).to_json(ID, "x")

    def test_the_first_that_fits_is_taken(self) -> None:
        made = converter(datetime | str)

        assert made.from_json(made.to_json(NOON, "x"), "x") == NOON
        assert made.from_json(made.to_json("soon", "x"), "x") == "soon"
        with pytest.raises(InvalidParams, match="would come back as datetime"):
            made.to_json(NOON.isoformat(), "x")

    def test_members_that_share_no_json_type_are_never_confused(self) -> None:
        made = converter(int | float | bool | str | list[int] | Item)

        for value in (1, 1.0, True, "1", [1], Item("a", 1.0)):
            back = made.from_json(json.loads(json.dumps(made.to_json(value, "x"))), "x")
            assert back == value
            assert type(back) is type(value)

    def test_a_misfit_inside_its_class_is_named(self) -> None:
        bad = Item("a", "1")  # type: ignore[arg-type]

        with pytest.raises(InvalidParams, match=r"^x.price must be a float, not str; pass"):
            converter(Item | str).to_json(bad, "x")
        with pytest.raises(InvalidParams, match=r"^x.price must be a float, not str; pass"):
            converter(Item | str).from_json({"name": "a", "price": "1"}, "x")

    def test_an_enum_is_not_taken_for_its_number(self) -> None:
        made = converter(Level | str)

        assert made.from_json(made.to_json(Level.LOW, "x"), "x") is Level.LOW
        with pytest.raises(InvalidParams, match="is a Level that would come back as int"):
            converter(int | Level).to_json(Level.LOW, "x")

    def test_two_classes_are_refused(self) -> None:
        with pytest.raises(NoForm, match=r"Item \| Order cannot be told apart in JSON; use one"):
            converter(Item | Order)
        with pytest.raises(NoForm, match="told apart"):
            converter(Item | Point | None)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Connection, "Connection has no JSON form rota knows; use a dataclass"),
        (list[Connection], "Connection has no JSON form"),
        (HoldsConnection, "HoldsConnection.connection: Connection has no JSON form"),
        (type[int], r"type\[int\] has no JSON form"),
        (complex, "complex has no JSON form"),
        (dict[float, int], "float cannot be the key of a JSON object; use str"),
        (dict[bool, int], "bool cannot be the key"),
    ],
)
def test_a_type_without_a_form_is_refused(annotation: Any, words: str) -> None:
    with pytest.raises(NoForm, match=words):
        converter(annotation)


def test_an_annotation_that_cannot_be_resolved_is_refused() -> None:
    class Local(NamedTuple):
        value: Missing  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(NoForm, match=r"an annotation of Local cannot be resolved .*; import"):
        converter(Local)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(InvalidParams, match="nested too deeply, or contains itself; pass"):
        converter(Any).to_json(loop, "x")


def test_results_leave_outcomes_out_and_forgive_the_unknown() -> None:
    made = result_converter(date | Retry | Ignore)

    assert made.to_json(date(2024, 1, 1), "result") == "2024-01-01"
    assert result_converter(Connection).to_json(1, "result") == 1
    assert result_converter(Retry).name == "Any"
