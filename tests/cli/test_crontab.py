"""Crontab files: read as Debian's cron reads them."""

from __future__ import annotations

import getpass
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from rota import Retry
from rota.cli.crontab_file import parse, split_percent
from rota.cli.crontab_install import named
from rota.cli.crontab_work import run_line, words_of
from rota.errors import InvalidArgument
from tests.cli.places import Place

DEBIAN = Path(__file__).with_name("debian.crontab")
PARIS = ZoneInfo("Europe/Paris")


def test_a_debian_crontab_is_read_whole() -> None:
    found = parse(DEBIAN.read_text(), system=True, timezone="Europe/Paris")
    assert len(found.entries) == 21
    assert [note.split(":")[0] for note in found.left_out] == ["crontab, line 26"]
    first, mail = found.entries[0], found.entries[16]
    assert (first.user, first.command) == ("root", "cd / && run-parts --report /etc/cron.hourly")
    assert first.env["MAILTO"] == "root"
    assert (mail.user, mail.command) == ("backup", 'mail -s "Backup" root')
    assert mail.stdin == "The backup of last night is done.\n\n-- %cron\n"
    assert "$(date +%d) -le 7" in found.entries[7].command


@pytest.mark.parametrize("at", [(2026, 11, 22), (2027, 3, 27), (2026, 10, 24)])
def test_next_times_agree_with_crons_own(at: tuple[int, int, int]) -> None:
    """cronsim is written after Debian's cron, with its daylight saving."""
    start = datetime(*at, 12, tzinfo=PARIS)
    text = DEBIAN.read_text()
    for entry in parse(text, system=True, timezone="Europe/Paris").entries:
        expression = text.splitlines()[entry.number - 1]
        fields = 1 if expression.startswith("@") else 5
        plain = " ".join(expression.split()[:fields])
        oracle = CronSim(entry.rule.expression if fields == 1 else plain, start)
        moment: datetime | None = start.astimezone(UTC)
        for _ in range(30):
            assert moment is not None
            moment = entry.rule.next(moment)
            assert moment == next(oracle).astimezone(UTC), expression


@pytest.mark.parametrize(
    ("text", "command", "stdin"),
    [
        ("echo", "echo", ""),
        ("date +\\%Y", "date +%Y", ""),
        ("cat%a%b", "cat", "a\nb\n"),
        ("cat%", "cat", ""),
        ("cat%%", "cat", "\n"),
        ("cat%a\\%b%", "cat", "a%b\n"),
        (r"cat%a\\%b\x" + "\\", "cat", "a\\%b\\x\\\n"),
        (r"cat%x\\\%y%\%", "cat", "x\\\\%y\n%\n"),
        (r"echo 'a\\b\c'", r"echo 'a\b\c'", ""),
        (r"echo 'a\\%b'", "echo 'a\\", "b'\n"),
        (r"echo 'x\\\%y'", r"echo 'x\%y'", ""),
        ("echo a%one\\%two%three  ", "echo a", "one%two\nthree  \n"),
    ],
)
def test_percent_ends_the_command_and_begins_its_input(text: str, command: str, stdin: str) -> None:
    """What Debian 12's cron 3.0pl1-162 was seen to do with each."""
    assert split_percent(text) == (command, stdin)


def test_variables_hold_for_the_lines_below_and_are_not_expanded() -> None:
    variables = "X = ' two  words '\n\tY=$X # no comment\nCRON_TZ=Asia/Tokyo\n"
    text = f"0 0 * * * a\n{variables}0 0 * * * b=1 c\n"
    first, second = parse(text, system=False, timezone="UTC").entries
    assert (first.env, first.rule.timezone, first.command) == ({}, "UTC", "a")
    assert second.env == {"X": " two  words ", "Y": "$X # no comment"}
    assert (second.rule.timezone, second.command, second.user) == ("Asia/Tokyo", "b=1 c", None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0 * * *", "not complete; write five fields, and the command"),
        ("@daily", "not complete; write a name such as @daily"),
        ("61 0 * * * x", "'61' as minute is out of range"),
        ("@fortnightly x", "@fortnightly is not one of"),
        ("@rebooted x", "@rebooted is not one of"),
        ("* * * * *  ", "not complete; write five fields"),
        ("@daily ", "not complete; write a name"),
        ("a-b=c", "no name of a variable; use letters"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_line(line: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(f"# first\n{line}\n", system=False, timezone="UTC")
    assert "line 2" in str(caught.value)
    assert said in str(caught.value)


def test_equal_lines_have_ids_of_their_own_and_the_same_on_every_host() -> None:
    text = "0 0 * * * a\n0 0 * * * a\n@daily a\n@daily b\n"
    ids = list(named(parse(text, system=False, timezone="UTC").entries, "x"))
    assert len(set(ids)) == 4
    assert (ids[1], ids[2]) == (f"{ids[0]}-2", f"{ids[0]}-3")
    again = f"A=1\n# moved\n{text}"
    assert list(named(parse(again, system=False, timezone="UTC").entries, "x")) == ids


def test_an_h_is_decided_by_the_lines_own_id() -> None:
    entries = parse("H * * * * a\nH * * * * b\n", system=False, timezone="UTC").entries
    rules = [entry.rule for entry in named(entries, "x").values()]
    assert all(rule.expression.split()[0].isdigit() for rule in rules)
    assert rules == [entry.rule for entry in named(entries, "x").values()]


async def test_a_line_runs_as_under_cron(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "mine")
    result = await run_line(
        "cat; pwd; echo $A {b} ${SECRET:-unset} $LOGNAME $PATH",
        stdin="$A %s\n",
        env={"A": "a  b", "HOME": "/tmp"},
    )
    me = getpass.getuser()
    assert result["stdout"] == f"$A %s\n/tmp\na b {{b}} unset {me} /usr/bin:/bin\n"
    with pytest.raises(Retry) as failed:
        await run_line("exit 3", env={"HOME": "/tmp"})
    assert failed.value.reason == "exit status 3"


def test_another_users_line_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    words = words_of("id", stdin="", env={}, user="daemon")
    assert words[:4] == ["runuser", "-u", "daemon", "--"]
    monkeypatch.setattr(os, "getuid", lambda: 12_345)
    with pytest.raises(InvalidArgument, match="is not root; start it as root"):
        words_of("id", stdin="", env={}, user="daemon")
    with pytest.raises(InvalidArgument, match="does not exist on this node"):
        words_of("id", stdin="", env={}, user="nobody-of-that-name")


def test_check_shows_each_line_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    from rota.cli.main import run

    words = ["crontab", "check", str(DEBIAN), "--system", "--timezone", "Europe/Paris"]
    assert run([*words, "--json"]) == 0
    captured = capsys.readouterr()
    lines = json.loads(captured.out)["lines"]
    assert lines[0]["words"] == "minute 17 of every hour, Europe/Paris"
    assert "warning: " in captured.err
    assert run(words) == 0
    assert "at 06:25 every day, Europe/Paris" in capsys.readouterr().out


def test_import_makes_the_lines_recurring_and_removes_what_is_gone(
    place: Place, tmp_path: Path
) -> None:
    file = tmp_path / "tab"
    file.write_text("@daily one\n0 3 * * * two\n")
    words = ["crontab", "import", str(file), "--name", "mine", "--timezone", "UTC"]
    place.run("recurring", "add", "crontab:mind", "other", "--every", "1h")
    first = place.json(*words)
    assert [line["command"] for line in first["lines"]] == ["one", "two"]
    file.write_text("PATH=/opt\n0 3 * * * two\n@hourly three\n")
    second = place.json(*words)
    assert second["removed"] == [first["lines"][0]["id"]]
    assert second["lines"][0]["id"] == first["lines"][1]["id"]
    stored = {one["id"]: one for one in place.json("recurring", "list")["recurring"]}
    assert set(stored) == {"crontab:mind", *(line["id"] for line in second["lines"])}
    two = stored[second["lines"][0]["id"]]
    assert (two["work"], two["params"]["command"]) == ("crontab.line", "two")
    assert two["params"]["env"] == {"PATH": "/opt"}
