"""Every example of the pages runs as it stands and prints what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted((DOCS / "howto").glob("*.md"))
#: The tutorial's programs are run by test_tutorial.py, with its commands.
WITH_PROGRAMS = [*PAGES, *sorted((DOCS / "explanation").glob("*.md"))]

#: The rows of the list of capabilities that these pages must show.
ROWS = [
    *(f"A{n}" for n in range(1, 23)),
    *(f"B{n}" for n in (*range(5, 17), 18, 19, 20)),
    *(f"C{n}" for n in (5, 7, 10, 11, 12)),
    *(f"D{n}" for n in (1, *range(4, 11))),
]

INDEX = (DOCS / "index.md").read_text()

_PAIR = re.compile(r"^```python\n(.*?)^```\n\s*^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$|`[^`]*`", re.DOTALL | re.MULTILINE)
_COVERS = re.compile(r"<!-- covers: ([A-Z0-9 ]+) -->")


class Example(NamedTuple):
    """A program of a page and what it prints."""

    program: str
    printed: str


def examples(page: Path) -> list[Example]:
    return [Example(*found) for found in _PAIR.findall(page.read_text())]


NUMBERED = [
    pytest.param(example, id=f"{page.parent.name}-{page.stem}-{number}")
    for page in WITH_PROGRAMS
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
def test_a_page_has_a_program(page: Path) -> None:
    assert examples(page)


@pytest.mark.parametrize(
    "page",
    [*WITH_PROGRAMS, *(DOCS / "reference").glob("*.md")],
    ids=lambda page: f"{page.parent.name}-{page.stem}",
)
def test_every_program_of_a_page_is_run(page: Path) -> None:
    assert page.read_text().count("```python\n") == len(examples(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_service_a_page_includes_has_a_test(page: Path) -> None:
    for target in re.findall(r"^```{literalinclude} (.+)$", page.read_text(), re.MULTILINE):
        included = (page.parent / target).resolve().relative_to(ROOT / "examples")

        assert (ROOT / "examples" / included).is_file()
        assert (ROOT / "tests" / "examples" / f"test_{Path(included.parts[0]).stem}.py").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_the_rows_it_covers(page: Path) -> None:
    assert _COVERS.search(page.read_text())


@pytest.mark.parametrize(
    "page",
    [page for page in DOCS.rglob("*.md") if page.name != "index.md"],
    ids=lambda page: f"{page.parent.name}-{page.stem}",
)
def test_a_page_stands_in_a_toctree_of_the_index(page: Path) -> None:
    toctrees = re.findall(r"^```{toctree}\n(.*?)^```$", INDEX, re.DOTALL | re.MULTILINE)
    entries = [line for toctree in toctrees for line in toctree.splitlines()]

    assert any(fnmatch(str(page.relative_to(DOCS).with_suffix("")), entry) for entry in entries)


def test_the_index_names_no_page_twice_and_none_that_is_missing() -> None:
    named = [
        line
        for line in INDEX.splitlines()
        if re.fullmatch(r"(tutorial|howto|reference|explanation)/[\w-]+", line)
    ]

    assert len(named) == len(set(named)) > 0
    assert [name for name in named if not (DOCS / f"{name}.md").exists()] == []


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
        for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", _CODE.sub("", page.read_text()))
        if not (page.parent / target).exists()
    ]

    assert broken == []
