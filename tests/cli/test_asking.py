"""On a terminal, what changes many tasks asks first."""

from __future__ import annotations

import pytest

from tests.cli.places import Place
from tests.cli.terminal import *  # noqa: F403 - fixtures are found by name
from tests.cli.terminal import Terminal


@pytest.mark.parametrize(
    ("keys", "said", "status", "left"),
    [
        ("n\n", "nothing was done\r\n", 0, "scheduled"),
        ("\n", "nothing was done\r\n", 0, "scheduled"),
        ("y\n", "cancelled 1\r\n", 0, "cancelled"),
        (
            "\x03",
            "^C\r\nerror: interrupted; nothing goes on in the background\r\n",
            130,
            "scheduled",
        ),
    ],
    ids=["no", "neither", "yes", "Ctrl-C"],
)
def test_only_a_yes_is_one(
    sqlite_place: Place, terminal: Terminal, keys: str, said: str, status: int, left: str
) -> None:
    task = sqlite_place.json("tasks", "schedule", "later", "--delay", "1h")["id"]
    terminal.resize(100, 10)
    terminal.start("tasks", "cancel", "--all", *sqlite_place.options)
    terminal.until(lambda: terminal.written.endswith("Cancel every task there is? [y/N]: "))

    terminal.send(keys)

    again = keys if keys == "\x03" else ""
    terminal.until(lambda: terminal.written.endswith(said), again=again)
    assert terminal.process is not None
    assert terminal.process.wait(timeout=30) == status
    assert sqlite_place.json("tasks", "show", task)["state"] == left
