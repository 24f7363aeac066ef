"""The same programs under pyright: errors on the lines that expect one, and on no other.

The texts are mypy's; pyright words its errors in its own way, so only their places count.
Of revealed types (``# N:``) the type must be the same.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.typing.test_mypy import PROGRAMS, ROOT, Place, expected

_REVEALED = re.compile(r'^Type of .* is "(?P<type>.*)"$', re.DOTALL)
_QUOTED = re.compile(r'^Revealed type is "(.*)"$')
_MODULE = re.compile(r"\b(?:\w+\.)+")


@pytest.fixture(scope="module")
def diagnostics() -> list[dict[str, Any]]:
    """What pyright says of all programs, in strict mode's absence: its own default rules."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    run = subprocess.run(
        [*command, str(PROGRAMS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
    )
    answer = json.loads(run.stdout)
    assert answer["summary"]["filesAnalyzed"] == len(list(PROGRAMS.glob("*.py"))), run.stderr
    found: list[dict[str, Any]] = answer["generalDiagnostics"]
    return found


def place(diagnostic: dict[str, Any]) -> Place:
    return Path(diagnostic["file"]).name, diagnostic["range"]["start"]["line"] + 1


def places(kind: str) -> set[Place]:
    """Where the programs expect an error (E) or a revealed type (N)."""
    return {where for where, answers in expected().items() if any(k == kind for k, _ in answers)}


def test_pyright_refuses_what_mypy_refuses_and_nothing_else(
    diagnostics: list[dict[str, Any]],
) -> None:
    refused = {place(one): one["message"] for one in diagnostics if one["severity"] == "error"}
    assert sorted(refused) == sorted(places("E")), {
        where: refused[where] for where in refused.keys() - places("E")
    }


def test_pyright_sees_the_same_types(diagnostics: list[dict[str, Any]]) -> None:
    seen = {
        place(one): found["type"]
        for one in diagnostics
        if one["severity"] == "information" and (found := _REVEALED.match(one["message"]))
    }
    assert sorted(seen) == sorted(places("N"))
    for where, answers in expected().items():
        for kind, text in answers:
            if kind == "N":
                wanted = _MODULE.sub("", _QUOTED.sub(r"\1", text))
                assert seen[where] == wanted, where
