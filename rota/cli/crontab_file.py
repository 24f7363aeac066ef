"""Read a crontab as Debian's cron does: fields, variables, users, and % in commands."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rota.errors import InvalidArgument, InvalidTrigger
from rota.triggers import Cron

_VARIABLE = re.compile(r"""(?:"([^"]*)"|'([^']*)'|([^\s="']+))\s*=\s*(.*)""")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BLANKS = re.compile(r"[ \t]+")
_BARE_PERCENT = re.compile(r"((?:[^%\\]|\\.)*)%", re.DOTALL)
_ESCAPED = re.compile(r"\\([%\\])")
#: cronie's variable for the zone of the lines below it.
_ZONE = "CRON_TZ"


class Entry(NamedTuple):
    """One line: when, and what a shell is to do with which variables and input."""

    number: int
    rule: Cron
    command: str
    stdin: str
    env: dict[str, str]
    user: str | None


class Crontab(NamedTuple):
    """The lines of a file; ``left_out`` says of others why they are not among them."""

    entries: list[Entry]
    left_out: list[str]


def read_crontab(path: Path, *, system: bool, timezone: str) -> Crontab:
    """The file's lines; raises ``InvalidArgument`` that names the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"{path} is not UTF-8 text ({error.reason}); is it a crontab?", field="file"
        ) from None
    return parse(text, system=system, timezone=timezone, where=str(path))


def parse(text: str, *, system: bool, timezone: str, where: str = "crontab") -> Crontab:
    """The lines of a crontab; with ``system`` each names a user before its command."""
    entries: list[Entry] = []
    left_out: list[str] = []
    env: dict[str, str] = {}
    for number, line in _lines(text):
        spot = f"{where}, line {number}"
        variable = _variable(line, spot)
        if variable is not None:
            env[variable[0]] = variable[1]
        elif _BLANKS.split(line, maxsplit=1)[0] == "@reboot":
            left_out.append(
                f"{spot}: @reboot is left out, since no one host's start is the cluster's; "
                "schedule it where the service starts"
            )
        else:
            zone = env.get(_ZONE, timezone)
            entries.append(_entry(line, number, spot, dict(env), zone, system=system))
    return Crontab(entries, left_out)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        begun = line.lstrip(" \t").rstrip("\r")
        if begun.strip() and not begun.startswith("#"):
            yield number, begun


def _variable(line: str, spot: str) -> tuple[str, str] | None:
    """Name and value, if it sets a variable; nothing in the value is expanded."""
    found = _VARIABLE.fullmatch(line.rstrip(" \t"))
    if found is None:
        return None
    name, value = found[1] or found[2] or found[3] or "", found[4]
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{spot}: {name!r} is no name of a variable; use letters, digits and _", field="file"
        )
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return name, value


def _entry(
    line: str, number: int, spot: str, env: dict[str, str], zone: str, *, system: bool
) -> Entry:
    fields = 1 if line.startswith("@") else 5
    wanted = fields + system + 1
    parts = _BLANKS.split(line, maxsplit=wanted - 1)
    if len(parts) < wanted or not parts[-1].strip():
        when = "a name such as @daily" if fields == 1 else "five fields"
        raise InvalidArgument(
            f"{spot}: {line!r} is not complete; write {when}, "
            f"{'the user, ' if system else ''}and the command",
            field="file",
        )
    try:
        rule = Cron(" ".join(parts[:fields]), zone)
    except InvalidTrigger as error:
        raise InvalidTrigger(f"{spot}: {error}", field="file") from None
    command, stdin = split_percent(parts[-1])
    if "\0" in line:
        raise InvalidArgument(f"{spot}: a NUL stands in it; take it out", field="file")
    env.pop(_ZONE, None)
    return Entry(number, rule, command, stdin, env, parts[fields] if system else None)


def split_percent(text: str) -> tuple[str, str]:
    """The command up to the first bare ``%``, and what follows as its input.

    As in Debian's cron: in the command ``\\%`` is a ``%`` and ``\\\\`` a ``\\``; in the input each
    ``%`` is a new line, ``\\%`` a ``%``, and every other backslash stays.

    >>> split_percent("mail ada%hello%it is 100\\% done")
    ('mail ada', 'hello\nit is 100% done\n')
    """
    bare = _BARE_PERCENT.match(text)
    end = bare.end(1) if bare else len(text)
    command = _ESCAPED.sub(r"\1", text[:end])
    stdin = re.sub(r"(\\?)%", lambda found: "%" if found[1] else "\n", text[end + 1 :])
    if stdin and not stdin.endswith("\n"):
        stdin += "\n"
    return command, stdin


def local_timezone() -> str:
    """The zone of this machine's clock, which is what cron reads its fields by; else UTC."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name and not name.startswith("/"):
        return name
    stated = Path("/etc/timezone")
    if stated.is_file() and (text := stated.read_text(encoding="utf-8").strip()):
        return text
    _, found, tail = os.path.realpath("/etc/localtime").partition("/zoneinfo/")
    return tail.removeprefix("posix/") if found else "UTC"
