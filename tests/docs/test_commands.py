"""Every ``rota …`` command on the pages exists and takes the options it is given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from rota.cli.main import rota

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(?:console|bash|sh|ini)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"(?:^|[ /=$])rota ((?:[a-z]|--|-[a-z]).*)")
_SPAN = re.compile(r"`rota ([a-z][^`]*)`")


class Said(NamedTuple):
    """A command line as a page has it; of a span in the text only the words are checked."""

    words: tuple[str, ...]
    whole: bool


def said_on(page: Path) -> Iterator[Said]:
    text = page.read_text()
    for block in _BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            found = _COMMAND.search(line.partition(" #")[0])
            if found:
                yield Said(_words(found[1]), whole=True)
    for span in _SPAN.findall(text):
        yield Said(tuple(span.split()), whole=False)


def _words(line: str) -> tuple[str, ...]:
    """The words up to where the shell takes over."""
    words = []
    for word in shlex.split(re.sub(r"\$\(.*?\)", "SUBSTITUTED", line)):
        if word in {"|", "&", "&&", ">", ">>", "<", ";"} or word.startswith(("2>", ">")):
            break
        words.append(word)
    return tuple(words)


def resolved(words: tuple[str, ...]) -> tuple[click.Command, click.Context, list[str]]:
    """The command that the first words name, and what is left for it."""
    command: click.Command = rota
    ctx, left = click.Context(command, info_name="rota"), list(words)
    while isinstance(command, click.Group) and left and not left[0].startswith("-"):
        found = command.get_command(ctx, left[0])
        assert found is not None, f"{' '.join(words)}: no command {left[0]!r}"
        command, ctx = found, click.Context(found, parent=ctx, info_name=left.pop(0))
    return command, ctx, left


def check(said: Said) -> None:
    """Raise unless the command exists and takes its options."""
    command, ctx, left = resolved(said.words)
    if said.whole:
        assert left or not isinstance(command, click.Group), "a group alone does nothing"
        command.make_parser(ctx).parse_args(left)


PAGES = [
    pytest.param(page, id=str(page.relative_to(ROOT)))
    for page in [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
    if any(said_on(page))
]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_on_a_page_exist_and_take_their_options(page: Path) -> None:
    for said in said_on(page):
        check(said)


@pytest.mark.parametrize("wrong", ["nonsense", "tasks nonsense", "tasks list --nonsense"])
def test_one_that_does_not_exist_is_noticed(wrong: str) -> None:
    with pytest.raises((AssertionError, click.NoSuchOption)):
        check(Said(_words(wrong), whole=True))
