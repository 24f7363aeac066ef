"""The entry point: the command group, and every error as one sentence and an exit status."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

import click

from rota.cli import exits
from rota.cli.db import db
from rota.cli.demo import demo
from rota.errors import RotaError

#: Set in the environment, what nobody expected is raised as it is.
TRACEBACK = "ROTA_TRACEBACK"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="rota", message="%(prog)s %(version)s")
def rota() -> None:
    """Timed work that survives: durable tasks on SQLite or PostgreSQL."""


rota.add_command(db)
rota.add_command(demo)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 well, 1 failed, 2 usage, 3 not found, 4 conflict."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    try:
        answer = rota.main(
            None if arguments is None else list(arguments), "rota", standalone_mode=False
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except RotaError as error:
        exits.complain(str(error))
        return exits.status_of(error)
    except (click.Abort, KeyboardInterrupt, asyncio.CancelledError):
        exits.complain("interrupted; nothing goes on in the background")
        return exits.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; Python's own flush at the end must not say so again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILED
    except OSError as error:
        exits.complain(f"{error}; look at the file or the disk")
        return exits.FAILED
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        exits.complain(
            f"unexpected {type(error).__name__}: {error}; "
            f"set {TRACEBACK}=1 to see where, and report it"
        )
        return exits.FAILED
    return answer if isinstance(answer, int) else 0


if __name__ == "__main__":
    main()
