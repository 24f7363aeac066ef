"""Whatever value of a type Hypothesis finds comes back as it was."""

from __future__ import annotations

import json
from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core.codec import dump, load
from rota.core.convert import converter
from rota.errors import InvalidParams
from tests.registry.shapes import Colour, Item, Level, Point, Tree

# What a float of seconds tells apart to the microsecond: 2**33 seconds, 272 years.
LONG = timedelta(days=99_000)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda n: timezone(timedelta(minutes=n)))
ITEMS = st.builds(Item, name=TEXT, price=FLOATS, colour=st.sampled_from(Colour))
TREES = st.recursive(
    st.builds(Tree, st.integers()),
    lambda inner: st.builds(Tree, st.integers(), st.lists(inner, max_size=3), st.none() | inner),
    max_leaves=8,
)

SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (bool, st.booleans()),
    (int, st.integers()),
    (float, FLOATS),
    (str, TEXT),
    (bytes, st.binary()),
    (timedelta, st.timedeltas(-LONG, LONG)),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Item, ITEMS),
    (Tree, TREES),
    (Point, st.builds(Point, st.integers(), st.integers())),
]


def _times() -> list[tuple[Any, st.SearchStrategy[Any]]]:
    from datetime import date, datetime, time
    from uuid import UUID

    return [
        (datetime, st.datetimes(timezones=OFFSETS)),
        (date, st.dates()),
        (time, st.times()),
        (UUID, st.uuids()),
    ]


SINGLE = [*SCALARS, *_times()]
HASHABLE = [pair for pair in SINGLE if pair[0] is not Tree]


def there_and_back(annotation: Any, value: Any) -> Any:
    made = converter(annotation)
    return made.from_json(load(dump(made.to_json(value, "x"), "x")), "x")


@pytest.mark.parametrize(("annotation", "values"), SINGLE, ids=lambda one: str(one)[:40])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_single_values(annotation: Any, values: Any, data: Any) -> None:
    value = data.draw(values)
    back = there_and_back(annotation, value)

    assert back == value
    assert type(back) is type(value)


@st.composite
def typed(draw: Any, depth: int = 2) -> tuple[Any, st.SearchStrategy[Any]]:
    """An annotation, and the strategy of its values."""
    if depth == 0:
        return draw(st.sampled_from(SINGLE))
    inner, values = draw(typed(depth - 1))
    shape = draw(st.sampled_from(["list", "tuple", "pair", "set", "dict", "optional"]))
    if shape == "list":
        return list[inner], st.lists(values, max_size=4)
    if shape == "tuple":
        return tuple[inner, ...], st.lists(values, max_size=4).map(tuple)
    if shape == "pair":
        return tuple[int, inner], st.tuples(st.integers(), values)
    if shape == "set":
        inner, values = draw(st.sampled_from(HASHABLE))
        return frozenset[inner], st.frozensets(values, max_size=4)
    if shape == "dict":
        key, keys = draw(
            st.sampled_from([(str, TEXT), (int, st.integers()), (Colour, st.sampled_from(Colour))])
        )
        return dict[key, inner], st.dictionaries(keys, values, max_size=4)
    return inner | None, st.none() | values


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_nested_types(data: Any) -> None:
    annotation, values = data.draw(typed())
    value = data.draw(values)

    assert there_and_back(annotation, value) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(st.data(), JSON)
def test_foreign_json_is_decoded_or_refused_as_invalid_params(data: Any, form: Any) -> None:
    annotation, _ = data.draw(typed())
    made = converter(annotation)

    refusal = None
    try:
        value = made.from_json(form, "x")
    except InvalidParams as error:
        refusal = error
    if refusal is None:
        # What was read can be written, and reads the same.
        assert made.from_json(json.loads(json.dumps(made.to_json(value, "x"))), "x") == value
    else:
        assert refusal.field.startswith("x")
        assert "; " in str(refusal)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_unannotated_json_is_passed_as_it_is(form: Any) -> None:
    assert there_and_back(Any, form) == form


@settings(max_examples=200, deadline=None)
@given(st.one_of([values for kind, values in SINGLE if kind not in {Tree, Point}]))
def test_a_wide_union_changes_no_type_silently(value: Any) -> None:
    annotation = SINGLE[0][0]
    for kind, _ in SINGLE[1:]:
        if kind not in {Tree, Point}:
            annotation = annotation | kind
    refusal = None
    try:
        back = there_and_back(annotation, value)
    except InvalidParams as error:
        refusal = error
    if refusal is None:
        assert back == value
        assert type(back) is type(value)
    else:
        assert "would come back as" in str(refusal)
