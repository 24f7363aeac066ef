"""The command line as a whole: light, versioned, one sentence per error."""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from rota import errors
from rota.cli import exits
from rota.cli import main as entry
from tests.cli.command import rota, sentence


def test_help_imports_no_command_and_no_driver() -> None:
    program = (
        "import sys\nimport rota.errors, click\nbefore = set(sys.modules)\n"
        "from rota.cli.main import run\nassert run(['--help']) == 0\n"
        "print(sorted(set(sys.modules) - before), file=sys.stderr)\n"
        "assert run(['demo', '--help']) == 0\nassert run(['tasks', '--help']) == 0\n"
        "assert not {'sqlalchemy', 'psycopg', 'sqlite3'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
    ours = [name for name in ast.literal_eval(done.stderr) if name.startswith("rota")]
    assert ours == ["rota.cli", "rota.cli.exits", "rota.cli.lazy", "rota.cli.main"]


@pytest.mark.parametrize("name", entry.COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    with click.Context(entry.rota) as context:
        command = entry.rota.get_command(context, name)
    assert command is not None
    assert command.name == name
    said = entry.COMMANDS[name].help
    assert command.help is not None
    assert " ".join(command.help.split()).startswith(said.rstrip("."))


def test_version() -> None:
    assert rota("--version").stdout == f"rota {version('rota')}\n"


def test_a_shell_completes_commands_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_ROTA_COMPLETE", "bash_complete")
    for said, place, completed in (
        ("rota tas", "1", "plain,tasks"),
        ("rota tasks list --created-a", "3", "plain,--created-after"),
    ):
        monkeypatch.setenv("COMP_WORDS", said)
        monkeypatch.setenv("COMP_CWORD", place)
        assert rota().stdout.splitlines() == [completed]


def test_unknown_command_is_a_usage_error() -> None:
    done = rota("dance")
    assert done.returncode == exits.USAGE
    assert "No such command 'dance'" in sentence(done)


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
        (FileNotFoundError(2, "No such file", "/x"), 1),
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

    monkeypatch.delenv(entry.DEBUG_VARIABLE, raising=False)
    monkeypatch.setitem(entry.rota.commands, "fail", click.Command("fail", callback=fail))
    assert entry.run(["fail"]) == status
    said = capsys.readouterr().err
    # click ends the line of a ^C itself.
    assert len(said.strip().splitlines()) == 1
    assert said.strip().startswith("error: ")


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), errors.TaskNotFound("x")])
def test_debug_raises_what_happened(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setitem(entry.rota.commands, "fail", click.Command("fail", callback=fail))
    with pytest.raises(type(error)):
        entry.run(["fail", "--debug"])


ID = "01a2042b-9c46-7bf3-a1e0-c426f516829e"
WRONG = [
    ("cron explain '* * * *'", "4 fields; write minute, hour"),
    ("cron explain '0 3 * * *' --timezone Mars", "'Mars' is not a known time zone; take"),
    ("crontab check /no/such/file", "does not exist; see: rota crontab check --help"),
    ("crontab import setup.cfg", "does not exist; see: rota crontab import --help"),
    ("crontab run /etc/hostname --system", "is not complete; write five fields, the user"),
    ("db status", "no database is named; give --url, or set ROTA_URL"),
    ("db sql --url mysql://x", "is not one rota knows; use"),
    ("db upgrade --url", "requires an argument; see: rota"),
    ("doctor --schema x", "SQLite has no schemas; leave --schema out"),
    ("doctor --nothing", "No such option '--nothing'; see: rota doctor --help"),
    ("demo --nodes 99", "not in the range 3<=x<=16; see: rota demo --help"),
    ("history archive f --older-than soon", "'soon' is no duration; write 90, 15m"),
    ("history retention --done soon", "'soon' is no duration; write 90, 15m"),
    ("history retention --done 5", "retention.done is 5.0; it must be 60 s or more"),
    ("history prune", "Missing option '--older-than'; see: rota history prune --help"),
    ("nodes --url", "requires an argument; see: rota nodes --help"),
    ("nodes --limit 0", "not in the range 1<=x<=1000; see: rota nodes --help"),
    ("queues list --since yesterday", "is no instant; write it like 2026-12-01T08:00+01:00"),
    ("queues pause", "Missing argument 'QUEUE'; see: rota queues pause --help"),
    ("recurring add a w --cron '0 3 * * *' --every 1h", "when it fires; give one of --cron"),
    ("recurring add a w --every 0", "; "),
    ("recurring add a w --trigger '{}'", "is not known to this version; upgrade"),
    ("recurring add a w --every 1h --timezone UTC", "belong to --cron; leave them out"),
    ("recurring next", "Missing argument 'ID'; see: rota recurring next --help"),
    ("recurring list --limit x", "is not a valid integer range; see"),
    ("run nowhere", "names no scheduler; write module:name"),
    ("run nowhere:x", "there is no module 'nowhere'; start it where"),
    ("run ./json/tool.py:x", "is a file, not a module; write it like json.tool:x"),
    ("run json.py:x", "is a file, not a module; write it like json:x"),
    ("run json:loads", "json:loads() raised TypeError"),
    ("run json:JSONDecoder.decode", "add --debug to see where"),
    ("run json:nothing", "json has no 'nothing'; name the scheduler"),
    ("run json:__name__", "is of type str; name a rota.Scheduler"),
    ("tasks cancel", "say which tasks; name their ids, or give filters, or --all"),
    (f"tasks cancel {ID} --all", "say which tasks; name their ids"),
    ("tasks delete nine", "id 'nine' is not a UUID; make one"),
    ("tasks list --state asleep", "state 'asleep' is not a state; use scheduled"),
    ("tasks list --due-after 2026-12-01T08:00", "does not say its offset; write it like"),
    ("tasks list --meta tenant", "'tenant' names no value; write name=value"),
    (f"tasks reschedule {ID}", "say when; give either --at or --delay"),
    ("tasks schedule w --params [1]", "'[1]' is no JSON object; write it like"),
    ("tasks schedule w --backoff '{\"a\": 1}'", "it may have first, factor, max, jitter"),
    ("tasks schedule w --app nowhere:x", "there is no module 'nowhere'; start it where"),
    ("tasks show", "Missing argument 'TASK_ID'; see: rota tasks show --help"),
    ("top --interval never", "'never' is no duration; write 90"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_wrong_use_is_one_line_with_the_remedy(
    words: str,
    said: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ROTA_URL", "ROTA_APP", entry.DEBUG_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    url = f"sqlite:///{tmp_path / 'rota.db'}"
    assert entry.run(["db", "upgrade", "--url", url]) == 0
    capfd.readouterr()
    if words.split(maxsplit=1)[0] not in {"db", "cron"}:
        monkeypatch.setenv("ROTA_URL", url)
    status = entry.run(shlex.split(words))
    captured = capfd.readouterr()
    assert said in sentence(subprocess.CompletedProcess([], status, "", captured.err))
    assert (status, captured.out) == (exits.USAGE, "")


def leaves(command: click.Command, *words: str) -> Iterator[tuple[str, click.Command]]:
    """Each command below this one, under all its words."""
    with click.Context(command) as context:
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                yield from leaves(below, *words, name)
        else:
            yield " ".join(words), command


def test_every_command_speaks_json() -> None:
    without = [
        words
        for words, command in leaves(entry.rota)
        if not any("--json" in option.opts for option in command.params)
    ]
    assert without == []


def test_every_command_has_its_wrong_use() -> None:
    without = {one for one, _ in leaves(entry.rota) if not any(w.startswith(one) for w, _ in WRONG)}
    # They take an id alone, as recurring next does, or nothing but filters.
    assert without <= {
        "queues resume",
        "tasks retry",
        *(f"recurring {verb}" for verb in ("pause", "resume", "remove", "run", "show")),
    }


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("at postgresql://ada:se@cret@db/x?a=1", "at postgresql://ada:***@db/x?a=1"),
        (
            "postgresql://db/x?user=a&password=secret&b=1",
            "postgresql://db/x?user=a&password=***&b=1",
        ),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
    ],
)
def test_passwords_of_urls_are_masked(text: str, masked: str) -> None:
    assert exits.masked(text) == masked
