"""The commands on the pages do what stands below them; ``…`` there is anything."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.cli.main import run
from tests.cli.command import COMMAND

ROOT = Path(__file__).parents[2]
_FILE = re.compile(
    r"^```\{code-block\} \w+\n:caption: (\S+)\n\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Shell:
    """Runs a page's commands in this process, those in the background in one of their own."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capfd = capfd
        self._monkeypatch = monkeypatch
        self._begun: list[subprocess.Popen[str]] = []

    def run(self, command: str) -> str:
        """What it prints; of one in the background the first line."""
        word, *rest = shlex.split(command.removesuffix("; echo $?"))
        if word == "export":
            self._monkeypatch.setenv(*rest[0].split("=", 1))
            return ""
        assert word == "rota"
        if rest[-1] == "&":
            return self._begin(rest[:-1])
        self._capfd.readouterr()
        status = run(rest)
        out, err = self._capfd.readouterr()
        return out + err + (f"{status}\n" if command.endswith("; echo $?") else "")

    def _begin(self, words: list[str]) -> str:
        begun = subprocess.Popen(
            [*COMMAND, *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            # A node's log is on its own terminal.
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._begun.append(begun)
        assert begun.stdout is not None
        return begun.stdout.readline()

    def end(self) -> None:
        """End what it has begun."""
        for begun in self._begun:
            begun.terminate()
            begun.communicate(timeout=50)


@pytest.fixture
def shell(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    """In an empty directory, which modules are imported from."""
    for name in [name for name in os.environ if name.startswith("ROTA_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    made = Shell(capfd, monkeypatch)
    yield made
    made.end()
    sys.modules.pop("service", None)


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Each command of a page, and what stands below it."""
    for block in _CONSOLE.findall(page):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = step.partition("\n")
            yield command, printed


def fits(printed: str, said: str) -> bool:
    """Line by line, however wide the columns are; a line of ``…`` alone is any number of lines."""
    parts = ["(?:.*\n)*?" if line == "…" else _line(line) + " *\n" for line in printed.splitlines()]
    return re.fullmatch("".join(parts), said) is not None


def _line(line: str) -> str:
    anything = (re.escape(piece) for piece in line.split("…"))
    return re.sub(r"(?:\\ )+", " +", ".*".join(anything))


@pytest.mark.parametrize("name", ["cli", "crontab"])
def test_commands_print_what_the_page_says(name: str, shell: Shell, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / f"{name}.md").read_text()
    for file, text in _FILE.findall(page):
        (tmp_path / file).write_text(text)
    told = list(steps(page))
    assert len(told) > 3
    for command, printed in told:
        said = shell.run(command)
        assert fits(printed, said), f"$ {command}\n{said}\n-- the page says --\n{printed}"


def test_what_fits_a_page() -> None:
    assert fits("a  …  b\n…\nend\n", "a 1 b\nx\ny\nend\n")
    assert not fits("a\n", "b\n")
    assert not fits("a\n", "a\nb\n")
