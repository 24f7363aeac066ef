"""Every example of the how-to pages runs as it stands and prints what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "howto").glob("*.md"))

#: The rows of the list of capabilities that these pages must show.
ROWS = [
    *(f"A{n}" for n in range(1, 23)),
    *(f"B{n}" for n in (*range(5, 17), 18, 19, 20)),
    *(f"C{n}" for n in (5, 7, 10, 11, 12)),
]

_PAIR = re.compile(r"^```python\n(.*?)^```\n\s*^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COVERS = re.compile(r"<!-- covers: ([A-Z0-9 ]+) -->")


class Example(NamedTuple):
    """A program of a page and what it prints."""

    program: str
    printed: str


def examples(page: Path) -> list[Example]:
    return [Example(*found) for found in _PAIR.findall(page.read_text())]


NUMBERED = [
    pytest.param(example, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, example in enumerate(examples(page), 1)
]


@pytest.mark.parametrize("example", NUMBERED)
def test_an_example_prints_what_the_page_says(example: Example, tmp_path: Path) -> None:
    program = tmp_path / "example.py"
    program.write_text(example.program)

    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert (done.stdout, done.returncode) == (example.printed, 0), done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_program_of_a_page_is_run(page: Path) -> None:
    assert page.read_text().count("```python\n") == len(examples(page)) > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_the_rows_it_covers_and_stands_in_the_index(page: Path) -> None:
    assert _COVERS.search(page.read_text())
    assert f"(howto/{page.name})" in (ROOT / "docs" / "index.md").read_text()


@pytest.mark.parametrize("row", ROWS)
def test_a_capability_is_shown_somewhere(row: str) -> None:
    covered = {
        name: page.stem
        for page in PAGES
        for found in _COVERS.findall(page.read_text())
        for name in found.split()
    }

    assert row in covered


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        (str(page.relative_to(ROOT)), target)
        for page in (ROOT / "docs").rglob("*.md")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert broken == []
