"""Works that run a program: exactly this one, with params in named places of its arguments."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, cast

from rota.core.backoff import Backoff, BackoffFunction
from rota.core.clock import Seconds
from rota.core.failure import MESSAGE_LIMIT, clean
from rota.core.outcome import Retry
from rota.core.program import GRACE, Program, how_it_ended
from rota.core.unset import Unset
from rota.errors import InvalidArgument
from rota.registry.options import WorkOptions
from rota.registry.placeholders import Template, Value, guarded, risky, templates
from rota.registry.work import CoroutineWork, make_work

#: How much of each output stream a result keeps, in bytes.
MAX_OUTPUT = 64_000
#: The last line of stderr is looked for in so many bytes.
_TAIL = 2_000


class CommandResult(TypedDict):
    """What a program left behind; ``truncated`` says that it wrote more than was kept."""

    status: int
    stdout: str
    stderr: str
    truncated: bool


class CommandOptions(TypedDict, total=False):
    """The options of :meth:`WorkRegistry.register` that a command may have."""

    aliases: Iterable[str]
    queue: str | None
    priority: int | None
    max_attempts: int | Unset | None
    backoff: Backoff | BackoffFunction | Unset | None
    timeout: Seconds | Unset | None
    expires: Seconds | Unset | None
    max_rescues: int | Unset | None
    store_result: bool | None
    meta: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program with its arguments, checked; placeholders are filled from params."""

    program: str
    args: tuple[Template, ...]
    env: Mapping[str, str]
    cwd: str | None
    max_output: int
    ok_statuses: frozenset[int]

    @classmethod
    def checked(
        cls,
        program: str | os.PathLike[str],
        *,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        max_output: int = MAX_OUTPUT,
        ok_statuses: Iterable[int] = (0,),
    ) -> Command:
        """Check everything that can be before a task exists; ``InvalidArgument`` names it."""
        return cls(
            program=_program(program),
            args=templates(args),
            env=_env(env),
            cwd=None if cwd is None else os.fspath(cwd),
            max_output=_max_output(max_output),
            ok_statuses=_statuses(ok_statuses),
        )

    async def run(self, values: Mapping[str, Value]) -> CommandResult:
        """Run it once. Cancelled, its process group is ended, with SIGTERM first.

        Raises ``Retry``, which is a failed attempt, for a status that is not ok, and the
        ``OSError`` of a program that cannot be started.
        """
        environment = {**os.environ, **self.env}
        stdout, stderr = _Output(self.max_output), _Output(self.max_output)
        with stdout, stderr:
            program = await Program.start(
                [self._found(environment), *(arg.fill(values) for arg in self.args)],
                stdin=subprocess.DEVNULL,
                stdout=stdout.write_end,
                stderr=stderr.write_end,
                env=environment,
                cwd=self.cwd,
                start_new_session=True,
            )
            status = await _attended(program, [stdout, stderr])
        result = CommandResult(
            status=status,
            stdout=stdout.text(),
            stderr=stderr.text(),
            truncated=stdout.truncated or stderr.truncated,
        )
        if status not in self.ok_statuses:
            raise _failed(result, stderr.last_line())
        return result

    def _found(self, environment: Mapping[str, str]) -> str:
        if os.path.isabs(self.program):
            return self.program
        found = shutil.which(self.program, path=environment.get("PATH"))
        if found is None:
            raise FileNotFoundError(
                f"program {self.program!r} is not in the PATH of this node; install it there, "
                "or register the work with its absolute path"
            )
        return found


class _Output:
    """What a program writes to one pipe: the first bytes are kept, the rest is read away."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._tail = b""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._read_end, self.write_end = os.pipe()
        self.truncated = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._read_end)
        else:
            os.close(self.write_end)
        os.close(self._read_end)

    def read(self) -> asyncio.Future[None]:
        """Read until the last writer has closed its end, which leaves ours out."""
        os.close(self.write_end)
        os.set_blocking(self._read_end, False)
        self._loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._read_end, self._take, self._loop, ended)
        return ended

    def _take(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
        try:
            piece = os.read(self._read_end, 65_536)
        except BlockingIOError:
            return
        if not piece:
            loop.remove_reader(self._read_end)
            ended.set_result(None)
        room = self._limit - len(self._kept)
        self._kept += piece[:room]
        self.truncated = self.truncated or len(piece) > room
        self._tail = (self._tail + piece)[-_TAIL:]

    def text(self) -> str:
        return _decoded(self._kept)

    def last_line(self) -> str:
        lines = _decoded(self._tail).strip().splitlines()
        return lines[-1].strip() if lines else ""


async def _attended(program: Program, outputs: Sequence[_Output]) -> int:
    """Read its output until it is gone; whatever ends the waiting ends the process group."""
    ends = [output.read() for output in outputs]
    try:
        await asyncio.wait([program.gone])
        # What it left in the background may keep the pipes open for ever.
        await asyncio.wait(ends, timeout=GRACE)
    except asyncio.CancelledError:
        await _end(program)
        raise
    except GeneratorExit:  # the loop is gone, and with it all waiting
        program.send_group(signal.SIGKILL)
        raise
    return program.gone.result()


async def _end(program: Program) -> None:
    """Ask the process group to end, then make it; comes back when the program is gone."""
    if not program.gone.done():
        program.send_group(signal.SIGTERM)
    loop = asyncio.get_running_loop()
    alarm = loop.call_later(GRACE, program.send_group, signal.SIGKILL)
    await program.ended()
    alarm.cancel()
    program.send_group(signal.SIGKILL)  # members that outlived its head


def _decoded(data: bytes | bytearray) -> str:
    return clean(data.decode("utf-8", "replace"))


def _failed(result: CommandResult, last_line: str) -> Retry:
    """A failed attempt that says how it ended, with the output as its error."""
    reason = how_it_ended(result["status"])
    if last_line:
        reason = f"{reason}: {last_line}"[:MESSAGE_LIMIT]
    error = {"type": "CommandFailed", "message": reason, **result}
    return Retry(reason=reason, error=json.dumps(error))


def command_work(
    command: Command,
    *,
    id: str,  # noqa: A002
    aliases: tuple[str, ...],
    options: WorkOptions,
) -> CoroutineWork[..., CommandResult]:
    """The command as a work whose params are its placeholders."""

    async def run(**values: Any) -> CommandResult:
        return await command.run(values)

    names = dict.fromkeys(name for arg in command.args for _, name in arg.pieces if name)
    run.__name__ = run.__qualname__ = id
    run.__doc__ = f"Run {command.program}."
    run.__annotations__ = {**dict.fromkeys(names, Value), "return": CommandResult}
    listed = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    run.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    work = make_work(run, id=id, aliases=aliases, options=options)
    signature = guarded(work.signature, risky(command.args))
    return cast("CoroutineWork[..., CommandResult]", replace(work, signature=signature))


def _program(program: object) -> str:
    text = os.fspath(program) if isinstance(program, (str, os.PathLike)) else ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidArgument(
            f"program is {program!r}; pass a name to look up in PATH, or an absolute path",
            field="program",
        )
    if not os.path.isabs(text):
        if os.sep in text:
            raise InvalidArgument(
                f"program {text!r} depends on where the node was started; "
                "pass an absolute path, or a name to look up in PATH",
                field="program",
            )
        return text
    if not (Path(text).is_file() and os.access(text, os.X_OK)):
        raise InvalidArgument(
            f"program {text!r} is not an executable file here; install it, or pass its bare "
            "name, which each node looks up in PATH when it runs the work",
            field="program",
        )
    return text


def _env(env: object) -> dict[str, str]:
    given = {} if env is None else env
    if isinstance(given, Mapping) and all(
        isinstance(part, str) and "\0" not in part for item in given.items() for part in item
    ):
        return dict(given)
    raise InvalidArgument("env must be a dict of text to text", field="env")


def _max_output(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise InvalidArgument(
        f"max_output is {value!r}; it must be a number of bytes from 0", field="max_output"
    )


def _statuses(value: object) -> frozenset[int]:
    if isinstance(value, Iterable):
        statuses = list(value)
        if statuses and all(type(one) is int and 0 <= one <= 255 for one in statuses):
            return frozenset(statuses)
    raise InvalidArgument(
        f"ok_statuses is {value!r}; pass one or more exit statuses from 0 to 255",
        field="ok_statuses",
    )
