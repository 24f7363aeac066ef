"""The work that runs a crontab's line, in a shell, as cron would."""

from __future__ import annotations

import os
import pwd

from rota.errors import InvalidArgument
from rota.registry import WorkRegistry
from rota.registry.command import Command, CommandResult

LINE = "crontab.line"
QUEUE = "crontab"
#: What Debian's cron gives a command that sets none of its own.
_PATH, _SHELL = "/usr/bin:/bin", "/bin/sh"
#: Gives the line its input without a shell reading that.
_FED = 'printf %s "$1" | "$2" -c "$3"'


def crontab_works() -> WorkRegistry:
    """A registry with ``crontab.line``, for the scheduler of a service that is to run lines."""
    works = WorkRegistry()
    works.register(LINE, queue=QUEUE)(run_line)
    return works


async def run_line(
    command: str,
    stdin: str = "",
    env: dict[str, str] | None = None,
    user: str | None = None,
) -> CommandResult:
    """Have the shell run the command, in the user's home, with cron's few variables."""
    words = words_of(command, stdin=stdin, env=env or {}, user=user)
    home = _variables(env or {}, _account(user))["HOME"]
    literal = [word.replace("{", "{{").replace("}", "}}") for word in words]
    return await Command.checked(literal[0], args=literal[1:], cwd=home).run({})


def words_of(command: str, *, stdin: str, env: dict[str, str], user: str | None) -> list[str]:
    """The program and its arguments; another user's line is handed to ``runuser``."""
    account = _account(user)
    variables = _variables(env, account)
    shell = variables["SHELL"]
    line = [_SHELL, "-c", _FED, "sh", stdin, shell, command] if stdin else [shell, "-c", command]
    words = ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), *line]
    if account.pw_uid == os.getuid():
        return words
    if os.getuid() != 0:
        raise InvalidArgument(
            f"the line is to run as {account.pw_name!r} and this node is not root; "
            "start it as root or as that user",
            field="user",
        )
    return ["runuser", "-u", account.pw_name, "--", *words]


def _variables(env: dict[str, str], account: pwd.struct_passwd) -> dict[str, str]:
    return {
        "PATH": _PATH,
        "SHELL": _SHELL,
        "HOME": account.pw_dir,
        **env,
        "LOGNAME": account.pw_name,
        "USER": account.pw_name,
    }


def _account(user: str | None) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(os.getuid()) if user is None else pwd.getpwnam(user)
    except KeyError:
        raise InvalidArgument(
            f"user {user or os.getuid()} does not exist on this node; add it, "
            "or correct the crontab",
            field="user",
        ) from None
