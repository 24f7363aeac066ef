"""The reference pages say of every error and outcome what the code says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import rota.errors
from rota.core.outcome import RAISABLE, Done
from rota.errors import RotaError

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
ERRORS = (REFERENCE / "errors.md").read_text()
OUTCOMES = (REFERENCE / "outcomes.md").read_text()

CLASSES = [
    cls for _, cls in inspect.getmembers(rota.errors, inspect.isclass) if issubclass(cls, RotaError)
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_stands_in_the_table_with_its_code_and_parents(cls: type[RotaError]) -> None:
    parents = ", ".join(f"`{base.__name__}`" for base in cls.__bases__)
    rows = re.findall(
        rf"^\| `{cls.__name__}` \| (.*?) \| (.*?) \| (.+?) \| (.+?) \|$", ERRORS, re.MULTILINE
    )

    assert len(rows) == 1
    assert rows[0][:2] == (parents, f"`{cls.code}`")


def test_the_table_has_no_error_that_does_not_exist() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", ERRORS, re.MULTILINE)

    assert sorted(listed) == sorted(cls.__name__ for cls in CLASSES)


def test_the_tree_on_the_page_is_the_one_in_the_docstring() -> None:
    drawn = inspect.cleandoc(rota.errors.__doc__ or "").partition("::\n\n")[2]
    tree = inspect.cleandoc(drawn.partition("\n\nMessages")[0])
    shown = re.search(r"```text\n(RotaError\n.*?)\n```", ERRORS, re.DOTALL)

    assert shown is not None
    assert shown.group(1) == tree


@pytest.mark.parametrize("cls", [Done, *RAISABLE], ids=lambda cls: cls.__name__)
def test_an_outcome_stands_in_the_table_with_its_fields(cls: type[object]) -> None:
    row = re.search(rf"^\| `{cls.__name__}\((.*?)\)` \|", OUTCOMES, re.MULTILINE)
    fields = [name for name in inspect.signature(cls).parameters if name != "error"]

    assert row is not None
    assert [name for name in row.group(1).split(", ") if name] == fields
