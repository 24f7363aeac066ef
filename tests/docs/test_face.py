"""The reference has an entry for every public name, and makes each from its docstring."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import rota
import rota.testing

REFERENCE = "\n".join(
    page.read_text() for page in (Path(__file__).parents[2] / "docs" / "reference").glob("*.md")
)
ENTRIES = re.findall(r"^\.\. auto\w+:: (\S+)", REFERENCE, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in rota.__all__ if name != "RotaError"])
def test_a_public_name_has_one_entry(name: str) -> None:
    assert ENTRIES.count(name) == 1 or name == "UnreadableResult"


def test_errors_and_the_test_kit_are_entered_whole() -> None:
    assert {"rota.errors", "rota.testing", "rota.core.events"} <= set(ENTRIES)


@pytest.mark.parametrize(
    "cls",
    [getattr(rota, name) for name in rota.__all__ if inspect.isclass(getattr(rota, name))],
    ids=lambda cls: cls.__name__,
)
def test_a_public_class_says_what_it_is(cls: type[object]) -> None:
    assert cls.__doc__
