"""pydantic models and msgspec structs as params; skipped where the library is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from rota.core.convert import NoForm, converter
from rota.errors import InvalidParams

ID = UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def there_and_back(annotation: Any, value: Any) -> Any:
    made = converter(annotation)
    return made.from_json(json.loads(json.dumps(made.to_json(value, "x"))), "x")


class TestPydantic:
    @pytest.fixture
    def order(self) -> Any:
        pydantic = pytest.importorskip("pydantic")
        line = pydantic.create_model("Line", price=(float, ...))
        return pydantic.create_model(
            "Order",
            id=(UUID, ...),
            placed=(datetime, NOON),
            lines=(list[line], ...),
            kind=(str, pydantic.Field("new", alias="type")),
        )

    def test_there_and_back(self, order: Any) -> None:
        value = order(id=ID, lines=[{"price": 1}], type="old")

        assert there_and_back(order, value) == value
        assert there_and_back(list[order] | None, [value]) == [value]

    def test_a_misfit_is_named_by_its_path(self, order: Any) -> None:
        form = {"id": str(ID), "lines": [{"price": 1}, {"price": "s3cret"}]}

        with pytest.raises(InvalidParams, match=r"does not fit Order: .*; pass a valid") as caught:
            converter(list[order]).from_json([form], "x")
        assert caught.value.field == "x[0].lines[1].price"
        assert "s3cret" not in str(caught.value)
        with pytest.raises(InvalidParams, match="x must be a Order, not dict"):
            converter(order).to_json(form, "x")

    def test_two_models_in_a_union_are_refused(self, order: Any) -> None:
        pydantic = pytest.importorskip("pydantic")
        other = pydantic.create_model("Other", a=(int, ...))

        with pytest.raises(NoForm, match=r"Order \| Other cannot be told apart"):
            converter(order | other)


class TestMsgspec:
    @pytest.fixture
    def order(self) -> Any:
        msgspec = pytest.importorskip("msgspec")
        line = msgspec.defstruct("Line", [("price", float)])
        return msgspec.defstruct(
            "Order", [("id", UUID), ("lines", list[line]), ("placed", datetime, NOON)]
        )

    def test_there_and_back(self, order: Any) -> None:
        made = converter(order)
        value = made.from_json({"id": str(ID), "lines": [{"price": 1}]}, "x")

        assert value.id == ID
        assert there_and_back(order, value) == value

    def test_a_misfit_is_named_by_its_path(self, order: Any) -> None:
        form = {"id": str(ID), "lines": [{"price": 1}, {"price": "a"}]}

        with pytest.raises(InvalidParams, match=r"does not fit Order: Expected `float`") as caught:
            converter(list[order]).from_json([form], "x")
        assert caught.value.field == "x[0].lines[1].price"
        with pytest.raises(InvalidParams, match="x must be a Order, not dict"):
            converter(order).to_json(form, "x")

    def test_a_struct_written_as_an_array(self) -> None:
        msgspec = pytest.importorskip("msgspec")
        pair = msgspec.defstruct("Pair", [("a", int), ("b", int)], array_like=True)

        assert converter(pair).kinds == {list}
        assert there_and_back(pair, pair(1, 2)) == pair(1, 2)


def test_neither_is_imported_for_other_types() -> None:
    program = (
        "import sys, dataclasses\n"
        "from rota.core.convert import converter\n"
        "converter(dataclasses.make_dataclass('A', [('x', int)]))\n"
        "print({'pydantic', 'msgspec', 'sqlalchemy'} & set(sys.modules))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == "set()"
