"""The page of failures names tests; each of them is there, and no scenario is left out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "failures.md").read_text()
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"`([a-z_/0-9]+\.py)::(\w+)`")
FOLDERS = {"conformance": "rota/testing/conformance", "conformance_tests": "tests/conformance"}


@cache
def names(path: str) -> frozenset[str]:
    """Functions and classes of one file of tests."""
    tree = ast.parse((ROOT / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def resolved(path: str) -> str:
    folder, _, rest = path.partition("/")
    return f"{FOLDERS.get(folder, f'tests/{folder}')}/{rest}"


@pytest.mark.parametrize("number", range(1, 51))
def test_each_scenario_has_its_answer_and_its_tests(number: int) -> None:
    rows = [row for row in ROW.findall(PAGE) if row[0] == str(number)]
    assert len(rows) == 1
    _, _, answer, shown = rows[0]
    if not TEST.findall(shown):
        assert "does not apply" in answer or "open:" in shown


def test_every_test_on_the_page_exists() -> None:
    named = TEST.findall(PAGE)
    assert len(named) > 100
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / resolved(path)).exists() or name not in names(resolved(path))
    ]
    assert missing == []
