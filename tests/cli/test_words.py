"""What is written on the command line, and how answers are fitted to the terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import click
import pytest

from rota.cli import inputs
from rota.cli.answers import moment, shown, span
from rota.cli.progress import Progress
from rota.cli.table import table
from rota.core.facts import plain


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("0.5", 0.5), ("15m", 900), ("1d12h", 129_600), ("2w", 1_209_600), ("1.5h", 5400)],
)
def test_spans(text: str, seconds: float) -> None:
    assert inputs.span_of(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1y", "h", "nan", "1e9", "٣", "999999999999d"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 90, 15m"):
        inputs.span_of(text)


@pytest.mark.parametrize("text", ["tomorrow", "2026-12-01", "0001-01-01T00:00+14:00"])
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write it like"):
        inputs.instant_of(text)


def test_a_pair_is_json_where_it_reads_as_such() -> None:
    assert inputs.pair_of("a=7") == ("a", 7)
    assert inputs.pair_of("a=b=c") == ("a", "b=c")
    assert inputs.pair_of('a="7"') == ("a", "7")


def test_a_table_is_cut_to_the_terminal_but_ids_are_not() -> None:
    row = ("0123456789abcdef", "a note that is far too long for it")
    lines = table(("id", "note"), [row], whole=("id",), width=32).splitlines()
    assert lines == ["id                note", "0123456789abcdef  a note that i…"]
    assert max(map(len, table(("id", "note"), [row]).splitlines())) > 32


HEADERS = ("id", "work", "when", "note")
NARROW = {"whole": ("id",), "instants": ("when",), "spare": ("note", "when")}


def _row(note: str, when: str) -> tuple[str, ...]:
    return "0123456789abcdef", "invoice.send", when, note


@pytest.mark.parametrize(
    ("width", "note", "when", "shown"),
    [
        (80, "", "2025-12-01 08:00:00Z", "invoice.send  2025-12-01 08:00:00Z"),
        (60, "", "2025-12-01 08:00:00Z", "invoice.send  2025-12-01 08:00:00Z"),
        (50, "a long note", "2025-12-01 08:00:00Z", "invoice.…  2025-12-01  a long n…"),
        (44, "a long note", "2025-12-01 08:00:00Z", "invoice.send  2025-12-01"),
        (32, "a long note", "2025-12-01 08:00:00Z", "invoice.send"),
        (27, "a long note", "2025-12-01 08:00:00Z", "invoice.…"),
    ],
)
def test_a_table_says_less_before_it_cuts(width: int, note: str, when: str, shown: str) -> None:
    row = table(HEADERS, [_row(note, when)], **NARROW, width=width).splitlines()[1]
    assert row == f"0123456789abcdef  {shown}"


def test_an_instant_of_today_is_its_time() -> None:
    when = moment(datetime.now(UTC))
    narrow = table(HEADERS, [_row("", when)], **NARROW, width=45).splitlines()[1]
    # At midnight between the two, it is a date.
    assert narrow.split()[-1] in {when.split()[1], when.split()[0]}


def test_wide_letters_take_two_columns() -> None:
    lines = table(("name", "n"), [("夜間バッチ", 1), ("e\u0301", 22)]).splitlines()
    assert lines == ["name        n", "夜間バッチ  1", "e\u0301           22"]
    assert table(("name", "n"), [("夜間バッチ処理", 1)], width=11).splitlines()[1] == "夜間バ…   1"


def test_what_tasks_hold_cannot_move_the_cursor() -> None:
    assert shown("a\x1b[2J\rb\n") == "a\\x1b[2J\\rb\\n"
    assert "\x1b" not in table(("x",), [("\x1b]0;title\x07",)])


def test_spans_are_told_in_two_units() -> None:
    assert [span(n) for n in (0.0123, 59.4, 3_600, 90_061)] == ["12 ms", "59.4 s", "1 h", "1 d 1 h"]


def test_what_json_cannot_hold_is_none() -> None:
    assert plain({"a": float("nan"), "b": (1, 2)}) == {"a": None, "b": [1, 2]}


def test_progress_is_drawn_on_a_terminal_only() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for out, drawn in ((io.StringIO(), ""), (Terminal(), "\r\x1b[Kdone 3 …\r\x1b[K")):
        with Progress("done", out=out) as progress:
            progress.add(3)
        assert out.getvalue() == drawn
    half = Progress("done", total=4)
    half.count = 2
    assert half.line() == f"done [{'#' * 15}{' ' * 15}] 2 of 4"
