"""The command line as a whole: light, versioned, one sentence per error."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import click
import pytest

from rota import errors
from rota.cli import exits
from rota.cli import main as entry
from tests.cli.command import rota, sentence


def test_help_does_not_import_sqlalchemy() -> None:
    program = (
        "import sys\nfrom rota.cli.main import run\n"
        "assert run(['--help']) == 0\nassert run(['demo', '--help']) == 0\n"
        "assert 'sqlalchemy' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout


def test_version() -> None:
    assert rota("--version").stdout == f"rota {version('rota')}\n"


def test_unknown_command_is_a_usage_error() -> None:
    done = rota("dance")
    assert done.returncode == exits.USAGE
    assert "No such command 'dance'" in done.stderr


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("mysql://localhost/x", 2, "mysql://localhost/x"),
        ("nonsense", 2, "nonsense"),
        ("sqlite://", 2, "memory"),
        ("sqlite:////no/such/directory/rota.db", 2, "/no/such/directory"),
        ("postgresql://:::", 2, "postgresql"),
        ("postgresql://127.0.0.1:1/x", 1, "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("command", [("db", "status"), ("db", "upgrade"), ("demo",)])
def test_a_bad_url_is_one_sentence(
    command: tuple[str, ...],
    url: str,
    status: int,
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert entry.run([*command, "--url", url]) == status
    captured = capfd.readouterr()
    answer = subprocess.CompletedProcess([], status, captured.out, captured.err)
    assert said in sentence(answer)
    assert captured.out == ""


def test_a_password_is_not_shown() -> None:
    done = rota("demo", "--url", "postgresql://ada:secret@127.0.0.1:1/x")
    assert done.returncode == exits.FAILED
    assert "secret" not in sentence(done)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.StorageUnavailable("the disk is full; free some"), 1),
        (errors.InvalidArgument("no; yes"), 2),
        (errors.TaskNotFound("x"), 3),
        (errors.WrongState("x", "done", "retry it"), 4),
        (errors.DuplicateTask("x", "scheduled"), 4),
        (click.UsageError("no; yes"), 2),
        (OSError("no; yes"), 1),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("no"), 1),
    ],
)
def test_every_error_has_its_status(
    error: BaseException,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.delenv(entry.TRACEBACK, raising=False)
    monkeypatch.setitem(entry.rota.commands, "fail", click.Command("fail", callback=fail))
    assert entry.run(["fail"]) == status
    said = capsys.readouterr().err
    assert said.strip().splitlines()[-1].lower().startswith("error: ")
    assert "Traceback" not in said
