"""The entry point: the command group, and every error as one sentence and an exit status."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

import click

from rota.cli import exits
from rota.cli.lazy import Lazy, LazyGroup
from rota.errors import RotaError

#: Wherever it stands, or set in the environment: errors are raised with their tracebacks.
DEBUG, DEBUG_VARIABLE = "--debug", "ROTA_DEBUG"

COMMANDS = {
    "cron": Lazy("rota.cli.cron", "cron", "Cron expressions: explain."),
    "crontab": Lazy("rota.cli.crontab", "crontab", "Crontab files: run, import, check."),
    "db": Lazy("rota.cli.db", "db", "The database's tables: upgrade, status, sql."),
    "demo": Lazy("rota.cli.demo", "demo", "Show the promises kept while nodes die."),
    "doctor": Lazy("rota.cli.doctor", "doctor", "Check tables, nodes, clock and database."),
    "history": Lazy("rota.cli.history", "history", "Finished tasks: retention, prune, archive."),
    "nodes": Lazy("rota.cli.nodes", "nodes", "Show the nodes that are not declared dead."),
    "queues": Lazy("rota.cli.queues", "queues", "Queues: list, pause, resume."),
    "recurring": Lazy(
        "rota.cli.recurring",
        "recurring",
        "Recurring tasks: list, show, add, pause, resume, run, next, remove.",
    ),
    "run": Lazy("rota.cli.run", "run", "Run MODULE:SCHEDULER as a node."),
    "tasks": Lazy(
        "rota.cli.tasks",
        "tasks",
        "Tasks: list, show, schedule, cancel, retry, reschedule, delete.",
    ),
    "top": Lazy(
        "rota.cli.top",
        "top",
        "Watch counts by queue, rates, nodes and the failures of the last hour.",
    ),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(DEBUG, is_flag=True, help=f"Show tracebacks (or set {DEBUG_VARIABLE}=1).")
@click.version_option(package_name="rota", message="%(prog)s %(version)s")
def rota(debug: bool) -> None:
    """Timed work that survives: durable tasks on SQLite or PostgreSQL.

    Exit status: 0 well, 1 failed, 2 wrong use, 3 not found, 4 another state than needed,
    5 schema and version do not fit, 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = [word for word in given if word != DEBUG]
    if len(words) < len(given) or os.environ.get(DEBUG_VARIABLE):
        return _status(rota.main(words, "rota", standalone_mode=False))
    try:
        return _status(rota.main(words, "rota", standalone_mode=False))
    except (click.Abort, KeyboardInterrupt, asyncio.CancelledError):
        if sys.stderr.isatty():
            click.echo(err=True)  # after the ^C
        exits.complain("interrupted; nothing goes on in the background")
        return exits.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; Python's own flush at the end must not say so again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILED
    except Exception as error:  # noqa: BLE001 - no traceback reaches a terminal unasked
        return _said(error, words)


def _status(answer: object) -> int:
    return answer if isinstance(answer, int) else 0


def _said(error: Exception, words: Sequence[str]) -> int:
    """Say in one line what was wrong and what to do about it; the exit status."""
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return error.exit_code
        case click.UsageError():
            exits.complain(_usage(error, words))
            return error.exit_code
        case click.ClickException():
            exits.complain(f"{error.format_message()}; look at the file or the disk")
            return error.exit_code
        case RotaError():
            exits.complain(str(error))
            return exits.status_of(error)
        case OSError(filename=str(file), strerror=str(what)):
            exits.complain(f"{file}: {what}; look at the file or the disk")
        case OSError():
            exits.complain(f"{error}; look at the file or the disk")
        case _:
            exits.complain(
                f"unexpected {type(error).__name__}: {error}; "
                f"add {DEBUG} to see where, and report it"
            )
    return exits.FAILED


def _usage(error: click.UsageError, words: Sequence[str]) -> str:
    """What click says over several lines, in one, with where to look."""
    fact = " ".join(error.format_message().split()).rstrip(".")
    if ";" in fact:
        return fact
    command = _command(words) if error.ctx is None else error.ctx.command_path
    return f"{fact}; see: {command} --help"


def _command(words: Sequence[str]) -> str:
    """The command that the first words name; click's parser knows none when it complains."""
    command: click.Command | None = rota
    with click.Context(rota) as ctx:
        named = ["rota"]
        for word in words:
            if not isinstance(command, click.Group):
                break
            command = command.get_command(ctx, word)
            if command is None:
                break
            named.append(word)
    return " ".join(named)


if __name__ == "__main__":
    main()
