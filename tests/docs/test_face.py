"""The reference has an entry for every public name, at the place it is imported from."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import rota
import rota.app
import rota.control
import rota.registry
import rota.testing
import rota.triggers

REFERENCE = "\n".join(
    page.read_text() for page in (Path(__file__).parents[2] / "docs" / "reference").glob("*.md")
)
ENTRIES = re.findall(r"^\.\. auto(?:class|data|function):: (\S+)", REFERENCE, re.MULTILINE)
ROOMS = [rota.app, rota.control, rota.registry, rota.triggers]


def found(entry: str) -> Any:
    """What the entry documents, imported as the page says."""
    module, _, name = (entry if entry.startswith("rota.") else f"rota.{entry}").rpartition(".")
    return getattr(import_module(module), name)


def test_the_face_has_the_names_of_every_day() -> None:
    assert len(rota.__all__) == len(set(rota.__all__)) <= 40


@pytest.mark.parametrize("name", [name for name in rota.__all__ if name != "RotaError"])
def test_a_public_name_has_one_entry(name: str) -> None:
    assert ENTRIES.count(name) == 1


@pytest.mark.parametrize(
    "name",
    [f"{room.__name__}.{name}" for room in ROOMS for name in room.__all__],
)
def test_a_name_of_a_room_has_one_entry_there_or_in_the_face(name: str) -> None:
    short = name.rpartition(".")[2]
    assert [entry for entry in ENTRIES if entry.rpartition(".")[2] == short] == [
        short if short in rota.__all__ else name
    ]


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_is_imported_from_where_the_page_says(entry: str) -> None:
    assert found(entry) is not None


def test_errors_and_the_test_kit_are_entered_whole() -> None:
    whole = re.findall(r"^\.\. automodule:: (\S+)", REFERENCE, re.MULTILINE)
    entered = {"rota.errors", "rota.testing", "rota.testing.history", "rota.core.events"}
    assert entered == set(whole)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if inspect.isclass(found(entry))])
def test_a_public_class_says_what_it_is(entry: str) -> None:
    assert found(entry).__doc__
